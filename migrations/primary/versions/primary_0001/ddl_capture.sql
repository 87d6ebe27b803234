-- Event triggers write each schema change into the log, as a signed logical message in its own transaction.
--
-- The outer functions (ddl_end, ddl_drop, ddl_rewrite) are security definer and have no SET search_path, because
-- the caller's belongs to the statement: every name in them is qualified, and no operator is used. What they
-- call has its path pinned, and nobody may call it. That pg_event_trigger_ddl_commands() answers proves nothing: a
-- user's function inside CREATE TABLE … AS SELECT gets an answer too.
alter table logship.ddl_setting enable row level security;
alter table logship.ddl_failure enable row level security;
insert into logship.ddl_setting (on_failure) values ('error');
create sequence logship.ddl_number as bigint;
revoke all on sequence logship.ddl_number from public;

create function logship.ddl_sign(body bytea) returns bytea
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $function$
declare
  latest record;
  key bytea;
  head bytea;
  inner_pad constant bytea := decode(repeat('36', 32), 'hex');
  outer_pad constant bytea := decode(repeat('5c', 32), 'hex');
begin
  select k.generation, k.sealed, s.share into latest
    from logship.ddl_key k, logship.ddl_share s order by k.generation desc limit 1;
  if latest.sealed is null then
    raise exception 'there is no key to sign schema changes with'
      using errcode = 'LS004', hint = 'run logship ddl rotate-key';
  end if;
  key := logship.ddl_xor(latest.sealed, sha256(latest.share || int4send(latest.generation)));
  head := convert_to('1 ' || latest.generation || ' ', 'UTF8');
  -- HMAC-SHA256 (RFC 2104): the block is 64 bytes, the key 32.
  return head || convert_to(encode(
    sha256(logship.ddl_xor(key, outer_pad) || outer_pad
      || sha256(logship.ddl_xor(key, inner_pad) || inner_pad || convert_to('logship.ddl ', 'UTF8') || head || body)),
    'hex'), 'UTF8') || convert_to(' ', 'UTF8') || body;
end
$function$;

-- Whether it is nobody's business: temporary, logship's own, publications (which each side has for itself), large
-- objects (which logical decoding doesn't carry).
create function logship.ddl_ignored(class oid, object oid, schema text) returns boolean
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $function$
begin
  if schema in ('pg_temp', 'logship', 'logship_writers', 'pg_toast')
     or class in ('pg_catalog.pg_publication'::regclass, 'pg_catalog.pg_publication_rel'::regclass,
                  'pg_catalog.pg_publication_namespace'::regclass, 'pg_catalog.pg_subscription'::regclass,
                  'pg_catalog.pg_event_trigger'::regclass, 'pg_catalog.pg_largeobject'::regclass,
                  'pg_catalog.pg_largeobject_metadata'::regclass) then
    return true;
  end if;
  if class = 'pg_catalog.pg_namespace'::regclass then
    return exists (select from pg_catalog.pg_namespace n
                    where n.oid = object and n.nspname in ('logship', 'logship_writers'));
  end if;
  -- Triggers, rules and policies have no schema of their own.
  return schema is null and exists (
    select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where (c.relpersistence = 't' or n.nspname in ('logship', 'logship_writers'))
       and c.oid = case class
         when 'pg_catalog.pg_trigger'::regclass then (select t.tgrelid from pg_catalog.pg_trigger t where t.oid = object)
         when 'pg_catalog.pg_rewrite'::regclass then (select r.ev_class from pg_catalog.pg_rewrite r where r.oid = object)
         when 'pg_catalog.pg_policy'::regclass then (select p.polrelid from pg_catalog.pg_policy p where p.oid = object)
         when 'pg_catalog.pg_constraint'::regclass then (select k.conrelid from pg_catalog.pg_constraint k where k.oid = object)
         when 'pg_catalog.pg_attrdef'::regclass then (select d.adrelid from pg_catalog.pg_attrdef d where d.oid = object)
       end);
end
$function$;

-- GRANT and REVOKE name no object: these are the rows that this transaction has changed in the catalog they are
-- about, the newest 20. A row that is visible, and whose transaction is in progress, is ours (savepoints have
-- numbers of their own).
create function logship.ddl_granted(kind text)
  returns table (class oid, object oid, acl aclitem[], schema text, temporary boolean)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $function$
declare
  top constant xid8 := pg_current_xact_id();
  catalog constant text[] := case
    when kind in ('TABLE', 'SEQUENCE', 'COLUMN') then array['pg_class', 'relacl', 'c.relnamespace']
    when kind in ('FUNCTION', 'PROCEDURE', 'ROUTINE') then array['pg_proc', 'proacl', 'c.pronamespace']
    when kind in ('TYPE', 'DOMAIN') then array['pg_type', 'typacl', 'c.typnamespace']
    when kind = 'SCHEMA' then array['pg_namespace', 'nspacl', 'c.oid']
    when kind = 'LANGUAGE' then array['pg_language', 'lanacl', '0::oid']
    when kind = 'FOREIGN DATA WRAPPER' then array['pg_foreign_data_wrapper', 'fdwacl', '0::oid']
    when kind = 'FOREIGN SERVER' then array['pg_foreign_server', 'srvacl', '0::oid']
    when kind in ('TABLES', 'SEQUENCES', 'FUNCTIONS', 'ROUTINES', 'TYPES', 'SCHEMAS', 'LARGE OBJECTS')
      then array['pg_default_acl', 'defaclacl', 'c.defaclnamespace']
  end;
begin
  if catalog is null then
    return;
  end if;
  return query execute format(
    'select %1$L::regclass::oid, x.object, x.acl, n.nspname::text, n.oid = pg_my_temp_schema()
       from (select distinct on (y.object) y.*
               from (select c.oid as object, c.%2$s as acl, %3$s as namespace, c.xmin as made, c.cmin::text::bigint as command
                       from pg_catalog.%1$I c where c.%2$s is not null %4$s) y
              where age(y.made) <= age($1::text::xid)
                and pg_xact_status((($2::text::numeric + age($1::text::xid) - age(y.made))::text)::xid8) = ''in progress''
              order by y.object, y.command desc) x
       left join pg_catalog.pg_namespace n on n.oid = x.namespace
      order by x.command desc limit 20',
    catalog[1], catalog[2], catalog[3],
    case when catalog[1] = 'pg_class' then
      -- Of a column that nobody has any right of its own to any more, nothing is left but that the row has changed.
      'union all select c.oid, c.relacl, c.relnamespace, a.xmin, a.cmin::text::bigint from pg_catalog.pg_attribute a '
      'join pg_catalog.pg_class c on c.oid = a.attrelid '
      'where a.attnum > 0 and c.relkind in (''r'', ''p'', ''v'', ''m'', ''f'')' else '' end)
    using top::xid::text, top::text;
end
$function$;

-- Of a granted object: its address, its owner, and its privileges alone.
create function logship.ddl_granted_object(class oid, object oid, acl aclitem[]) returns jsonb
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $function$
declare
  facts jsonb;
begin
  if class = 'pg_catalog.pg_default_acl'::regclass then
    return logship.ddl_object(class, object, 0);
  end if;
  facts := jsonb_build_object('acl', logship.ddl_sorted(acl::text[]));
  if class = 'pg_catalog.pg_class'::regclass then
    facts := facts || jsonb_build_object('columns', coalesce((
      select jsonb_agg(jsonb_build_object('name', a.attname, 'acl', logship.ddl_sorted(a.attacl::text[])) order by a.attnum)
        from pg_catalog.pg_attribute a where a.attrelid = object and a.attacl is not null and not a.attisdropped), '[]'));
  end if;
  return (
    select jsonb_build_object('class', class::regclass::text, 'type', i.type, 'names', to_jsonb(x.object_names),
                              'args', to_jsonb(x.object_args), 'identity', i.identity, 'schema', i.schema,
                              'owner', case class
                                when 'pg_catalog.pg_class'::regclass then
                                  (select pg_get_userbyid(c.relowner) from pg_catalog.pg_class c where c.oid = object)
                                else logship.ddl_facts(class, object) ->> 'owner' end,
                              'facts', jsonb_strip_nulls(facts))
      from pg_identify_object(class, object, 0) i, pg_identify_object_as_address(class, object, 0) x);
end
$function$;

create function logship.ddl_commands(tag text) returns jsonb
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $function$
declare
  command record;
  granted record;
  object jsonb;
  objects jsonb := case when tag = 'DROP OWNED' then '[]'::jsonb end;
  temporary_only boolean;
begin
  for command in select * from pg_event_trigger_ddl_commands() loop
    -- REINDEX, reported from 18 on, changes no definition.
    continue when command.in_extension or command.command_tag = 'REINDEX';
    continue when command.object_type = 'LARGE OBJECT';
    if command.objid is null then
      temporary_only := null;
      for granted in select * from logship.ddl_granted(command.object_type) loop
        if granted.temporary or granted.schema in ('logship', 'logship_writers') then
          temporary_only := coalesce(temporary_only, true);
          continue;
        end if;
        temporary_only := false;
        objects := coalesce(objects, '[]')
          || (logship.ddl_granted_object(granted.class, granted.object, granted.acl)
              || jsonb_build_object('tag', command.command_tag));
      end loop;
      if temporary_only is not true then
        -- Nothing found (a REVOKE of the last default privilege deletes its row): the text says what was meant.
        objects := coalesce(objects, '[]');
      end if;
      continue;
    end if;
    continue when logship.ddl_ignored(command.classid, command.objid, command.schema_name);
    object := logship.ddl_object(command.classid, command.objid, command.objsubid);
    if object is null then
      raise exception 'the catalog has no % % that was just made or changed', command.object_type, command.object_identity
        using errcode = 'LS004';
    end if;
    objects := coalesce(objects, '[]')
      || (object || jsonb_build_object('tag', command.command_tag, 'oid', command.objid::bigint)
          || case when command.command_tag = 'ALTER TABLE' then logship.ddl_missing_below(command.objid) else '{}' end);
  end loop;
  return objects;
end
$function$;

create function logship.ddl_dropped(tag text) returns jsonb
  language sql volatile
  set search_path = pg_catalog, pg_temp
return (
  select jsonb_agg(jsonb_build_object(
           'class', d.classid::regclass::text, 'type', d.object_type, 'names', to_jsonb(d.address_names),
           'args', to_jsonb(d.address_args), 'identity', d.object_identity, 'schema', d.schema_name,
           'original', d.original))
    from pg_event_trigger_dropped_objects() d
   where not d.is_temporary
     and (d.original or d.object_type in ('table', 'sequence', 'view', 'materialized view', 'foreign table')
          -- What falls with CASCADE; members of an extension go with it, and a view's rule with the view.
          or d.normal and d.object_type <> 'rule' and ddl_dropped.tag <> 'DROP EXTENSION')
     and d.object_type not in ('publication', 'publication relation', 'publication namespace', 'subscription', 'event trigger')
     and coalesce(d.schema_name, '') not in ('pg_temp', 'pg_toast', 'logship', 'logship_writers')
     and not (d.object_type = 'schema' and d.object_name in ('logship', 'logship_writers'))
     and not (d.object_type in ('trigger', 'rule', 'policy')
              and d.address_names[1] in ('pg_temp', 'logship', 'logship_writers')));

create function logship.ddl_rewritten() returns jsonb
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $function$
declare
  object constant oid := pg_event_trigger_table_rewrite_oid();
begin
  if exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
              where c.oid = object and (c.relpersistence = 't' or n.nspname in ('logship', 'logship_writers'))) then
    return null;
  end if;
  return jsonb_build_array(logship.ddl_object('pg_catalog.pg_class'::regclass, object, 0) || jsonb_build_object(
    'tag', null, 'reason', pg_event_trigger_table_rewrite_reason())
    || logship.ddl_echo_of(object, pg_event_trigger_table_rewrite_reason()));
end
$function$;

create function logship.ddl_body(event text, tag text, stack text, path text, objects jsonb, error text) returns bytea
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $function$
begin
  return convert_to(jsonb_build_object(
    'number', nextval('logship.ddl_number'), 'xid', pg_current_xact_id()::text::bigint,
    'database', current_database(), 'server', current_setting('server_version_num')::int,
    'at', (extract(epoch from statement_timestamp()) * 1000000)::bigint,
    'event', event, 'tag', tag, 'query', current_query(), 'stack', stack,
    'context', jsonb_build_object(
      'session_user', session_user, 'role', current_setting('role'), 'search_path', path,
      'TimeZone', current_setting('TimeZone'), 'DateStyle', current_setting('DateStyle'),
      'IntervalStyle', current_setting('IntervalStyle'),
      'standard_conforming_strings', current_setting('standard_conforming_strings'),
      'default_tablespace', current_setting('default_tablespace'),
      'default_table_access_method', current_setting('default_table_access_method'),
      'check_function_bodies', current_setting('check_function_bodies'),
      'default_toast_compression', current_setting('default_toast_compression'),
      'array_nulls', current_setting('array_nulls'),
      'transform_null_equals', current_setting('transform_null_equals')),
    'objects', coalesce(objects, '[]'), 'error', error)::text, 'UTF8');
end
$function$;

create function logship.ddl_capture(event text, tag text, stack text, path text) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  -- Planning and compiling would cost ten times what running does.
  set plan_cache_mode = force_generic_plan
  set jit = off
as $function$
declare
  objects jsonb;
  content bytea;
  problem text;
begin
  begin
    objects := case event when 'end' then logship.ddl_commands(tag)
                          when 'drop' then logship.ddl_dropped(tag) else logship.ddl_rewritten() end;
    if objects is null then
      return;
    end if;
    content := logship.ddl_sign(logship.ddl_body(event, tag, stack, path, objects, null));
  exception when others then
    problem := sqlerrm;
    if (select s.on_failure from logship.ddl_setting s) is distinct from 'warn' then
      raise exception 'logship could not write this % into the log: %', tag, problem
        using errcode = 'LS004',
              hint = 'the secondary would miss it. Mend the cause; or, to let schema changes pass and mark the replica: '
                     'update logship.ddl_setting set on_failure = ''warn''';
    end if;
  end;
  if problem is not null then
    raise warning 'logship could not write this % into the log, the secondary misses it: %', tag, problem;
    insert into logship.ddl_failure (failed_at, xid, tag, error)
      values (now(), pg_current_xact_id()::text::bigint, tag, problem);
    begin
      content := logship.ddl_sign(logship.ddl_body('lost', tag, stack, path, null, problem));
    exception when others then
      return;  -- without a key nothing can be said in the log; the row above says it
    end;
  end if;
  perform pg_logical_emit_message(true, 'logship.ddl', content);
  if event = 'end' then
    perform logship.ddl_keyless(objects);
    perform logship.ddl_sequences_of(tag, objects);
    perform logship.ddl_echo_rows();
  end if;
end
$function$;

create function logship.ddl_end() returns event_trigger
  language plpgsql security definer
as $function$
declare
  stack pg_catalog.text;
begin
  get diagnostics stack = pg_context;
  perform logship.ddl_capture('end'::pg_catalog.text, tg_tag, stack, pg_catalog.current_setting('search_path'));
end
$function$;

create function logship.ddl_drop() returns event_trigger
  language plpgsql security definer
as $function$
declare
  stack pg_catalog.text;
begin
  get diagnostics stack = pg_context;
  perform logship.ddl_capture('drop'::pg_catalog.text, tg_tag, stack, pg_catalog.current_setting('search_path'));
end
$function$;

create function logship.ddl_rewrite() returns event_trigger
  language plpgsql security definer
as $function$
declare
  stack pg_catalog.text;
begin
  get diagnostics stack = pg_context;
  perform logship.ddl_capture('rewrite'::pg_catalog.text, tg_tag, stack, pg_catalog.current_setting('search_path'));
end
$function$;

-- For who may create event triggers: a superuser (or what a hosting service has instead). What runs as part of every
-- schema change, also a superuser's, must belong to nobody with fewer rights: it could be made to do something else.
create function logship.ddl_capture_on() returns void
  language plpgsql volatile security invoker
  set search_path = pg_catalog, pg_temp
as $function$
declare
  each record;
begin
  if not exists (select from logship.ddl_keys()) then
    raise exception 'there is no key to sign schema changes with' using errcode = 'LS004', hint = 'run logship ddl on';
  end if;
  for each in select p.oid::regprocedure::text as name from pg_catalog.pg_proc p
               where p.pronamespace = 'logship'::regnamespace and p.proname like 'ddl_%' loop
    execute format('alter function %s owner to current_user', each.name);
  end loop;
  for each in select c.oid::regclass::text as name, c.relkind from pg_catalog.pg_class c
               where c.relnamespace = 'logship'::regnamespace and c.relname like 'ddl_%' and c.relkind in ('r', 'm', 'S') loop
    execute format('alter %s %s owner to current_user',
                   case each.relkind when 'r' then 'table' when 'm' then 'materialized view' else 'sequence' end, each.name);
  end loop;
  for each in select * from (values ('ddl_end', 'ddl_command_end'), ('ddl_drop', 'sql_drop'),
                                    ('ddl_rewrite', 'table_rewrite')) as t (name, event) loop
    -- PG_CONTEXT is translated otherwise, and not to be read.
    execute format('alter function logship.%I() set lc_messages = ''C''', each.name);
    if not exists (select from pg_catalog.pg_event_trigger e where e.evtname = 'logship_' || each.name) then
      execute format('create event trigger %I on %s execute function logship.%I()',
                     'logship_' || each.name, each.event, each.name);
    end if;
    execute format('alter event trigger %I enable always', 'logship_' || each.name);
  end loop;
end
$function$;

create function logship.ddl_capture_off() returns void
  language sql volatile security invoker
  set search_path = pg_catalog, pg_temp
as $function$
  drop event trigger if exists logship_ddl_end;
  drop event trigger if exists logship_ddl_drop;
  drop event trigger if exists logship_ddl_rewrite;
$function$;

revoke all on table logship.ddl_setting, logship.ddl_failure from public;
revoke all on function logship.ddl_sign(bytea), logship.ddl_ignored(oid, oid, text), logship.ddl_granted(text),
  logship.ddl_granted_object(oid, oid, aclitem[]),
  logship.ddl_commands(text), logship.ddl_dropped(text), logship.ddl_rewritten(),
  logship.ddl_body(text, text, text, text, jsonb, text), logship.ddl_capture(text, text, text, text),
  logship.ddl_end(), logship.ddl_drop(), logship.ddl_rewrite(),
  logship.ddl_capture_on(), logship.ddl_capture_off() from public;
