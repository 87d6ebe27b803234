-- Event triggers write each schema change into the log, as a signed logical message in its own transaction.
--
-- The outer function, ddl_event, is security definer and has no SET search_path, because the caller's belongs to the
-- statement: every name in it is qualified, and no operator is used. What it calls, ddl_capture, pins the path and all
-- that changes how a definition is written down, once for what it calls in turn; and nobody may call any of it. That
-- pg_event_trigger_ddl_commands() answers proves nothing: a user's function inside CREATE TABLE … AS SELECT gets an
-- answer too. What costs time here, and what doesn't, is in docs/ddl.md.
alter table logship.ddl_setting enable row level security;
alter table logship.ddl_failure enable row level security;
insert into logship.ddl_setting (on_failure) values ('error');
create sequence logship.ddl_number as bigint;
revoke all on sequence logship.ddl_number from public;

create function logship.ddl_sign(body bytea) returns bytea
  language plpgsql volatile
as $function$
declare
  latest record;
  key bit(256);
  head bytea;
begin
  select k.generation, k.sealed, s.share into latest
    from logship.ddl_key k, logship.ddl_share s order by k.generation desc limit 1;
  if latest.sealed is null then
    raise exception 'there is no key to sign schema changes with'
      using errcode = 'LS004', hint = 'run logship ddl rotate-key';
  end if;
  key := ('x' || encode(latest.sealed, 'hex'))::bit(256)
       # ('x' || encode(sha256(latest.share || int4send(latest.generation)), 'hex'))::bit(256);
  head := convert_to('1 ' || latest.generation::text || ' ', 'UTF8');
  -- HMAC-SHA256 (RFC 2104): the block is 64 bytes, the key 32. In front of a string of bits, sent, is its length.
  return head || convert_to(encode(
    sha256(substr(bit_send(key # x'5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c'), 5)
      || '\x5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c'
      || sha256(substr(bit_send(key # x'3636363636363636363636363636363636363636363636363636363636363636'), 5)
        || '\x3636363636363636363636363636363636363636363636363636363636363636' || 'logship.ddl ' || head || body)),
    'hex'), 'UTF8') || ' ' || body;
end
$function$;

-- Whether it is nobody's business, though it has no schema that says so: of temporary tables, logship's own, publications
-- (which each side has for itself), large objects (which logical decoding doesn't carry).
create function logship.ddl_ignored(class oid, object oid) returns boolean
  language plpgsql stable
as $function$
declare
  relation oid;
begin
  if class in ('pg_catalog.pg_publication'::regclass, 'pg_catalog.pg_publication_rel'::regclass,
               'pg_catalog.pg_publication_namespace'::regclass, 'pg_catalog.pg_subscription'::regclass,
               'pg_catalog.pg_event_trigger'::regclass, 'pg_catalog.pg_largeobject'::regclass,
               'pg_catalog.pg_largeobject_metadata'::regclass) then
    return true;
  end if;
  -- Triggers, rules and policies have no schema of their own.
  case class::regclass
  when 'pg_catalog.pg_namespace'::regclass then
    return object::regnamespace::text in ('logship', 'logship_writers');
  when 'pg_catalog.pg_trigger'::regclass then
    select t.tgrelid into relation from pg_catalog.pg_trigger t where t.oid = object;
  when 'pg_catalog.pg_rewrite'::regclass then
    select r.ev_class into relation from pg_catalog.pg_rewrite r where r.oid = object;
  when 'pg_catalog.pg_policy'::regclass then
    select p.polrelid into relation from pg_catalog.pg_policy p where p.oid = object;
  when 'pg_catalog.pg_constraint'::regclass then
    select k.conrelid into relation from pg_catalog.pg_constraint k where k.oid = object;
  when 'pg_catalog.pg_attrdef'::regclass then
    select d.adrelid into relation from pg_catalog.pg_attrdef d where d.oid = object;
  else
    return false;
  end case;
  return logship.ddl_ours(relation);
end
$function$;

-- Whether a relation is nobody else's business: temporary, or logship's.
create function logship.ddl_ours(relation oid) returns boolean
  language plpgsql stable
as $function$
begin
  return exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                  where c.oid = relation and (c.relpersistence = 't' or n.nspname in ('logship', 'logship_writers')));
end
$function$;

-- Whether this transaction has made that version of a row, which is visible: then who made it is in progress
-- (savepoints have numbers of their own).
create function logship.ddl_made_here(made xid) returns boolean
  language plpgsql volatile
as $function$
declare
  top constant bigint := pg_current_xact_id()::text::bigint;
  later constant int := age(((top % 4294967296)::text)::xid) - age(made);
begin
  return later >= 0 and pg_xact_status(((top + later)::text)::xid8) = 'in progress';
end
$function$;

-- GRANT and REVOKE name no object: these are the rows that this transaction has changed in the catalog they are about,
-- the 20 newest. pg_attribute, which is large, is read only when the text has the parentheses that a column is named
-- in, or isn't known.
create function logship.ddl_granted(kind text, stack text, out class regclass, out objects oid[])
  language plpgsql volatile
as $function$
declare
  our_age constant int := age(((pg_current_xact_id()::text::bigint % 4294967296)::text)::xid);
  frames constant text := substr(stack, strpos(stack || E'\n', E'\n') + 1);
  acl text;
begin
  case
  when kind in ('TABLE', 'SEQUENCE', 'COLUMN') then
    class := 'pg_catalog.pg_class';
    if starts_with(frames, 'SQL function ') or strpos(case when frames = '' then current_query() else frames end, '(') > 0 then
      objects := array(
        select x.object
          from (select c.oid as object, c.cmin::text::bigint as command from pg_catalog.pg_class c
                 where c.relacl is not null and age(c.xmin) <= our_age and logship.ddl_made_here(c.xmin)
                union all
                -- Of a column that nobody has any right of its own to any more, nothing is left but that the row has changed.
                select a.attrelid, a.cmin::text::bigint from pg_catalog.pg_attribute a
                  join pg_catalog.pg_class c on c.oid = a.attrelid and c.relkind in ('r', 'p', 'v', 'm', 'f')
                 where a.attnum > 0 and age(a.xmin) <= our_age and logship.ddl_made_here(a.xmin)) x
         group by x.object order by max(x.command) desc limit 20);
    else
      -- All of pg_class is read, and nearly every row of it is old: that is asked before a row is taken apart.
      objects := array(
        select c.oid from (select c.oid, c.xmin, c.cmin, c.relacl from pg_catalog.pg_class c
                            where age(c.xmin) <= our_age offset 0) c
         where c.relacl is not null and logship.ddl_made_here(c.xmin)
         order by c.cmin::text::bigint desc limit 20);
    end if;
  else
    -- Seldom granted: planned when it is asked for.
    select c.class, c.acl into class, acl
      from (values ('FUNCTION', 'pg_proc'::regclass, 'proacl'), ('PROCEDURE', 'pg_proc', 'proacl'), ('ROUTINE', 'pg_proc', 'proacl'),
                   ('TYPE', 'pg_type', 'typacl'), ('DOMAIN', 'pg_type', 'typacl'), ('SCHEMA', 'pg_namespace', 'nspacl'),
                   ('LANGUAGE', 'pg_language', 'lanacl'), ('FOREIGN DATA WRAPPER', 'pg_foreign_data_wrapper', 'fdwacl'),
                   ('FOREIGN SERVER', 'pg_foreign_server', 'srvacl')) c (kind, class, acl)
     where c.kind = ddl_granted.kind;
    if kind in ('TABLES', 'SEQUENCES', 'FUNCTIONS', 'ROUTINES', 'TYPES', 'SCHEMAS', 'LARGE OBJECTS') then
      class := 'pg_catalog.pg_default_acl';
      acl := 'defaclacl';
    end if;
    if class is not null then
      execute format(
        'select array(select c.oid from %s c where c.%I is not null and age(c.xmin) <= $1 and logship.ddl_made_here(c.xmin)'
        ' order by c.cmin::text::bigint desc limit 20)', class, acl)
        into objects using our_age;
    end if;
  end case;
end
$function$;

-- Of a granted object: its address, its owner, and its privileges alone.
create function logship.ddl_granted_object(class regclass, object oid) returns jsonb
  language plpgsql stable
as $function$
declare
  address record;
  identified record;
  facts jsonb;
  owner text;
begin
  if class = 'pg_catalog.pg_default_acl'::regclass then
    return logship.ddl_described(class, object, 0);
  end if;
  if class = 'pg_catalog.pg_class'::regclass then
    select jsonb_build_object(
             'acl', logship.ddl_sorted(c.relacl::text[]),
             'columns', coalesce((
               select jsonb_agg(jsonb_build_object('name', a.attname, 'acl', logship.ddl_sorted(a.attacl::text[])) order by a.attnum)
                 from pg_catalog.pg_attribute a
                where a.attrelid = object and a.attacl is not null and not a.attisdropped), '[]')),
           pg_get_userbyid(c.relowner)
      into facts, owner
      from pg_catalog.pg_class c where c.oid = object;
  else
    facts := logship.ddl_facts(class, object);
    owner := facts ->> 'owner';
    facts := jsonb_build_object('acl', facts -> 'acl');
  end if;
  identified := pg_identify_object(class, object, 0);
  address := pg_identify_object_as_address(class, object, 0);
  return jsonb_build_object('class', class, 'type', identified.type, 'names', address.object_names,
                            'args', address.object_args, 'identity', identified.identity,
                            'schema', identified.schema, 'owner', owner, 'facts', jsonb_strip_nulls(facts));
end
$function$;

create function logship.ddl_commands(tag text, stack text) returns jsonb
  language plpgsql volatile
as $function$
declare
  command record;
  granted record;
  each oid;
  object jsonb;
  schema text;
  objects jsonb := case when tag = 'DROP OWNED' then '[]'::jsonb end;
  temporary_only boolean;
  sequences jsonb;
begin
  for command in
    select c.classid, c.objid, c.objsubid, c.command_tag, c.object_type, c.object_identity
      from pg_event_trigger_ddl_commands() c
     -- REINDEX, reported from 18 on, changes no definition.
     where not c.in_extension and c.command_tag <> 'REINDEX' and c.object_type <> 'LARGE OBJECT'
       and (c.schema_name is null or c.schema_name not in ('pg_temp', 'logship', 'logship_writers', 'pg_toast'))
  loop
    if command.objid is null then
      temporary_only := null;
      granted := logship.ddl_granted(command.object_type, stack);
      foreach each in array coalesce(granted.objects, '{}') loop
        object := logship.ddl_granted_object(granted.class, each);
        schema := coalesce(object ->> 'schema', object #>> '{facts,schema}',
                           case when granted.class = 'pg_catalog.pg_namespace'::regclass then object ->> 'identity' end);
        if starts_with(schema, 'pg_temp') or schema in ('logship', 'logship_writers') then
          temporary_only := coalesce(temporary_only, true);
          continue;
        end if;
        temporary_only := false;
        objects := coalesce(objects, '[]') || (object || jsonb_build_object('tag', command.command_tag));
      end loop;
      if temporary_only is not true then
        -- Nothing found (a REVOKE of the last default privilege deletes its row): the text says what was meant.
        objects := coalesce(objects, '[]');
      end if;
      continue;
    end if;
    if command.object_type = 'sequence' then
      -- A serial column's is made, and later given to its column: the catalog says the same of it both times.
      object := sequences -> command.objid::text;
      if object is null then
        object := logship.ddl_described(command.classid, command.objid, command.objsubid);
        sequences := coalesce(sequences, '{}') || jsonb_build_object(command.objid, object);
      end if;
    else
      if command.classid not in ('pg_class'::regclass::oid, 'pg_proc'::regclass::oid, 'pg_type'::regclass::oid) then
        continue when logship.ddl_ignored(command.classid, command.objid);
      end if;
      object := logship.ddl_described(command.classid, command.objid, command.objsubid);
    end if;
    if object is null then
      raise exception 'the catalog has no % % that was just made or changed', command.object_type, command.object_identity
        using errcode = 'LS004';
    end if;
    object := object || jsonb_build_object('tag', command.command_tag, 'oid', command.objid::bigint);
    if command.command_tag = 'ALTER TABLE' then
      object := object || logship.ddl_missing_below(command.objid);
    end if;
    objects := coalesce(objects, '[]') || object;
  end loop;
  return objects;
end
$function$;

create function logship.ddl_dropped(tag text) returns jsonb
  language plpgsql volatile
as $function$
begin
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
end
$function$;

create function logship.ddl_rewritten() returns jsonb
  language plpgsql volatile
as $function$
declare
  object constant oid := pg_event_trigger_table_rewrite_oid();
begin
  if logship.ddl_ours(object) then
    return null;
  end if;
  return jsonb_build_array(logship.ddl_described('pg_catalog.pg_class'::regclass, object, 0) || jsonb_build_object(
    'tag', null, 'reason', pg_event_trigger_table_rewrite_reason())
    || logship.ddl_echo_of(object, pg_event_trigger_table_rewrite_reason()));
end
$function$;

-- The bodies of functions in the language SQL that the statement may stand in: the stack says a name and which of its
-- statements. Names may hold anything, so what the stack begins with is asked for, and not what it says. Anybody may
-- make another function of that name: one counts only if its owner may act for the owner of what was made or changed,
-- with whose rights the text is run on the secondary. Of what was dropped nobody knows the owner: DROP is made from what
-- it has dropped.
create function logship.ddl_bodies(stack text, objects jsonb) returns jsonb
  language plpgsql volatile
as $function$
declare
  frames constant text := substr(stack, strpos(stack || E'\n', E'\n') + 1);
  owner constant name := (select o ->> 'owner' from jsonb_array_elements(objects) o where o ->> 'owner' is not null limit 1);
begin
  return (
    select jsonb_agg(jsonb_build_array(p.proname, p.prosrc) order by p.oid)
      from pg_catalog.pg_proc p
      join pg_catalog.pg_language l on l.oid = p.prolang
     where l.lanname = 'sql' and p.prosqlbody is null
       and starts_with(frames, 'SQL function "' || p.proname || '" statement ')
       and pg_has_role(p.proowner, owner, 'member'));
end
$function$;

create function logship.ddl_body(event text, tag text, stack text, context json, objects jsonb, error text) returns bytea
  language plpgsql volatile
as $function$
begin
  return convert_to(json_build_object(
    'number', nextval('logship.ddl_number'), 'xid', pg_current_xact_id()::text::bigint,
    'database', current_database(), 'server', current_setting('server_version_num')::int,
    'at', (extract(epoch from statement_timestamp()) * 1000000.0)::bigint,
    'event', event, 'tag', tag, 'stack', stack, 'context', context,
    -- Inside a function the stack has the text, and what was sent may hold what is nobody's business.
    'query', case when strpos(stack, E'\n') = 0 then current_query() else '' end,
    'objects', coalesce(objects, '[]'), 'error', error,
    'bodies', case when strpos(stack, E'\nSQL function "') > 0 then logship.ddl_bodies(stack, objects) end)::text, 'UTF8');
end
$function$;

-- `event` is tg_event.
create function logship.ddl_capture(event text, tag text, stack text, context json) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set datestyle = 'ISO, MDY'
  set intervalstyle = postgres
  set timezone = 'UTC'
  set extra_float_digits = 1
  set bytea_output = hex
  set quote_all_identifiers = off
  set standard_conforming_strings = on
  -- Planning and compiling would cost ten times what running does, and so would hashing a catalog for a few rows.
  set plan_cache_mode = force_generic_plan
  set enable_hashjoin = off
  set enable_mergejoin = off
  set enable_seqscan = off
  set enable_bitmapscan = off
  set jit = off
as $function$
declare
  objects jsonb;
  content bytea;
  problem text;
begin
  begin
    if event = 'ddl_command_end' then
      event := 'end';
      objects := logship.ddl_commands(tag, stack);
    elsif event = 'sql_drop' then
      event := 'drop';
      objects := logship.ddl_dropped(tag);
    else
      event := 'rewrite';
      objects := logship.ddl_rewritten();
    end if;
    if objects is null then
      return;
    end if;
    content := logship.ddl_sign(logship.ddl_body(event, tag, stack, context, objects, null));
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
      content := logship.ddl_sign(logship.ddl_body('lost', tag, stack, context, null, problem));
    exception when others then
      return;  -- without a key nothing can be said in the log; the row above says it
    end;
  end if;
  perform pg_logical_emit_message(true, 'logship.ddl', content);
  if event = 'end' then
    if tag in ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE SCHEMA', 'ALTER TABLE') then
      perform logship.ddl_keyless(objects);
    end if;
    -- From a new one nobody has drawn yet.
    if not starts_with(tag, 'CREATE ') and objects @> '[{"type": "sequence", "class": "pg_class"}]' then
      perform logship.ddl_sequences_of(tag, objects);
    end if;
    if starts_with(tag, 'ALTER ') then
      perform logship.ddl_echo_rows();
    end if;
  elsif event = 'drop' and starts_with(tag, 'DROP ') and tag not in ('DROP TABLE', 'DROP OWNED') then
    -- What is written after this follows the statement: DROP OWNED and ALTER TABLE are whole with their end only.
    objects := logship.ddl_keys_dropped();
    if objects is not null then
      perform logship.ddl_keyless(objects);
    end if;
  end if;
end
$function$;

create function logship.ddl_event() returns event_trigger
  language plpgsql security definer
as $function$
declare
  stack pg_catalog.text;
begin
  get diagnostics stack = pg_context;
  perform logship.ddl_capture(tg_event, tg_tag, stack, pg_catalog.json_build_object(
    'session_user', session_user, 'role', pg_catalog.current_setting('role'),
    'search_path', pg_catalog.current_setting('search_path'),
    'TimeZone', pg_catalog.current_setting('TimeZone'), 'DateStyle', pg_catalog.current_setting('DateStyle'),
    'IntervalStyle', pg_catalog.current_setting('IntervalStyle'),
    'standard_conforming_strings', pg_catalog.current_setting('standard_conforming_strings'),
    'default_tablespace', pg_catalog.current_setting('default_tablespace'),
    'default_table_access_method', pg_catalog.current_setting('default_table_access_method'),
    'check_function_bodies', pg_catalog.current_setting('check_function_bodies'),
    'default_toast_compression', pg_catalog.current_setting('default_toast_compression'),
    'array_nulls', pg_catalog.current_setting('array_nulls'),
    'transform_null_equals', pg_catalog.current_setting('transform_null_equals')));
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
  -- PG_CONTEXT is translated otherwise, and not to be read.
  alter function logship.ddl_event() set lc_messages = 'C';
  -- Event triggers fire in the order of their names. These come before anybody's, so that a statement is written down
  -- before what another trigger does about it: a GRANT on a table that has just been made.
  for each in select * from (values ('!logship_ddl_end', 'ddl_command_end'), ('!logship_ddl_drop', 'sql_drop'),
                                    ('!logship_ddl_rewrite', 'table_rewrite')) as t (name, event) loop
    if not exists (select from pg_catalog.pg_event_trigger e where e.evtname = each.name) then
      execute format('create event trigger %I on %s execute function logship.ddl_event()', each.name, each.event);
    end if;
    execute format('alter event trigger %I enable always', each.name);
  end loop;
end
$function$;

create function logship.ddl_capture_off() returns void
  language sql volatile security invoker
  set search_path = pg_catalog, pg_temp
as $function$
  drop event trigger if exists "!logship_ddl_end";
  drop event trigger if exists "!logship_ddl_drop";
  drop event trigger if exists "!logship_ddl_rewrite";
$function$;

revoke all on table logship.ddl_setting, logship.ddl_failure from public;
revoke all on function logship.ddl_sign(bytea), logship.ddl_ignored(oid, oid), logship.ddl_ours(oid),
  logship.ddl_made_here(xid), logship.ddl_granted(text, text), logship.ddl_granted_object(regclass, oid),
  logship.ddl_commands(text, text), logship.ddl_dropped(text), logship.ddl_rewritten(), logship.ddl_bodies(text, jsonb),
  logship.ddl_body(text, text, text, json, jsonb, text), logship.ddl_capture(text, text, text, json),
  logship.ddl_event(), logship.ddl_capture_on(), logship.ddl_capture_off() from public;
