-- An ALTER that rewrites a table writes none of its rows into the log. Where they can't be computed again with the
-- same result, the rows follow it there: by an UPDATE that changes nothing, or, where the key itself is new or
-- there is none, by TRUNCATE and INSERT. That is done with a superuser's rights and without triggers, so never to a table
-- where anything that users wrote would run.

-- Whether an expression, as the catalog stores it, could run what users wrote. PostgreSQL's own functions do that too
-- when they aren't immutable (query_to_xml runs a query, to_json calls casts), and so does the input of a type
-- with domains in it.
create function logship.ddl_calls_users(expression text) returns boolean
  language sql stable
  set search_path = pg_catalog, pg_temp
return coalesce(
  ddl_calls_users.expression ~ 'COERCETODOMAIN|\{JSON|\{XMLEXPR'
  or ddl_calls_users.expression like '%COERCEVIAIO%' and exists (
    select from regexp_matches(ddl_calls_users.expression, ':resulttype ([0-9]+)', 'g') m (found)
     where m.found[1]::bigint >= 16384)
  or exists (select from regexp_matches(ddl_calls_users.expression, ':(opno|[a-z]*func?id|[a-z]+fnoid) ([0-9]+)', 'g') m (found)
              where m.found[1] = 'opno' and m.found[2]::bigint >= 16384
                 or m.found[1] <> 'opno' and m.found[2] <> '0' and not exists (
                   select from pg_catalog.pg_proc p
                    where p.oid = m.found[2]::oid and p.oid < 16384 and p.provolatile = 'i')), false);

create function logship.ddl_holds_code(object oid) returns boolean
  language sql stable
  set search_path = pg_catalog, pg_temp
return exists (select from pg_catalog.pg_trigger t where t.tgrelid = object and t.tgenabled in ('A', 'R'))
  or exists (select from pg_catalog.pg_rewrite r where r.ev_class = object and r.ev_enabled in ('A', 'R'))
  or exists (select from pg_catalog.pg_index i
              where i.indrelid = object
                and (logship.ddl_calls_users(i.indexprs::text) or logship.ddl_calls_users(i.indpred::text)
                     or exists (select from unnest(i.indclass) k (class) where k.class >= 16384)
                     -- GiST asks a range type how far two values are apart: whoever made it has said how.
                     or exists (select from pg_catalog.pg_class c
                                 where c.oid = i.indexrelid and c.relam not in (403, 405)
                                   and exists (select from pg_catalog.pg_range r where r.rngsubdiff::oid >= 16384))))
  or exists (select from pg_catalog.pg_constraint k
              where k.conrelid = object and (logship.ddl_calls_users(k.conbin::text)
                or exists (select from unnest(k.conexclop) o (operator) where o.operator >= 16384)))
  or exists (select from pg_catalog.pg_attribute a
               join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
              where a.attrelid = object and a.attgenerated <> '' and logship.ddl_calls_users(d.adbin::text))
  or exists (select from pg_catalog.pg_partition_ancestors(object) p
               join pg_catalog.pg_partitioned_table x on x.partrelid = p.relid
              where x.partexprs is not null or exists (select from unnest(x.partclass) k (class) where k.class >= 16384));

-- Columns that this transaction has added or altered (or that somebody has since it began, which does no harm).
create function logship.ddl_new_columns(object oid) returns setof smallint
  language sql volatile
  set search_path = pg_catalog, pg_temp
begin atomic
  select a.attnum from pg_catalog.pg_attribute a
   where a.attrelid = object and a.attnum > 0 and not a.attisdropped
     and age(a.xmin) <= age(((pg_current_xact_id()::text::numeric % 4294967296)::text)::xid);
end;

-- {"echo": update or replace} for rows that are to follow; {"echo": null, "why": …} for those that can't; {} where there
-- is nothing to follow. Asked before the table is rewritten: what it says of a default that gives every row
-- another value, and can't be carried, fails the statement.
create function logship.ddl_echo_of(object oid, reason int) returns jsonb
  language plpgsql volatile
as $function$
declare
  found record;
  setting constant bigint := (select s.rewrite_echo_bytes from logship.ddl_setting s);
  logged constant boolean := reason & 1 <> 0;
  why text;
  mode text;
begin
  select c.relpersistence as persistence, c.relispartition as partition, c.relname, n.nspname,
         exists (select from logship.replica r join pg_catalog.pg_publication p on p.pubname = r.publication
                  where p.puballtables
                     or exists (select from pg_catalog.pg_publication_rel e
                                 where e.prpubid = p.oid and e.prrelid in (select c.oid union
                                   select a.relid from pg_catalog.pg_partition_ancestors(c.oid) a))
                     or exists (select from pg_catalog.pg_publication_namespace e
                                 where e.pnpubid = p.oid and e.pnnspid = c.relnamespace)) as published,
         exists (select from pg_catalog.pg_index i
                  where i.indrelid = c.oid and i.indisvalid
                    and case c.relreplident when 'd' then i.indisprimary when 'i' then i.indisreplident else false end
                    and not exists (select from logship.ddl_new_columns(c.oid) x (attnum)
                                     where x.attnum = any (i.indkey::smallint[]))) as keyed,
         exists (select from pg_catalog.pg_constraint k
                  where k.confrelid = c.oid and k.conrelid <> c.oid and k.contype = 'f') as referenced,
         exists (select from logship.replica r join pg_catalog.pg_publication p on p.pubname = r.publication
                  where p.pubviaroot) as by_root
    into found
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = object;
  if reason & 7 = 0 or not found.published or pg_relation_size(object) = 0
     or logged = (found.persistence = 'p') then
    return '{}';
  end if;
  mode := case when found.keyed and not logged then 'update'
               when not found.referenced and not (found.partition and found.by_root) then 'replace' end;
  why := case
    when mode is null then 'it is referred to by foreign keys, or a partition, and its key is new or not there'
    when pg_table_size(object) > setting then format(
      'it has %s bytes, and logship.ddl_setting allows rows to follow up to rewrite_echo_bytes = %s', pg_table_size(object), setting)
    when logship.ddl_holds_code(object) then
      'it has triggers or rules that fire in replicas, or indexes, checks or generated columns that may call functions of users'
    end;
  if why is null then
    insert into logship.ddl_echo (relation, xid, mode) values (object, pg_current_xact_id()::text::bigint, mode)
      on conflict (relation) do update set xid = excluded.xid, mode = excluded.mode;
    return jsonb_build_object('echo', mode);
  end if;
  if reason & 2 <> 0 and exists (
    select from pg_catalog.pg_attrdef d
      join logship.ddl_new_columns(object) x (attnum) on x.attnum = d.adnum
     where d.adrelid = object
       and (d.adbin::text like '%NEXTVALUEEXPR%' or exists (
         select from regexp_matches(d.adbin::text, ':(?:funcid|opfuncid) ([0-9]+)', 'g') m (found)
           join pg_catalog.pg_proc p on p.oid = m.found[1]::oid where p.provolatile = 'v'))) then
    raise exception 'it gives every row of %.% a value of its own, and the rows can''t follow: %. Add the column '
      'without default, then set the default, then fill the column by UPDATE; or, for a large table, raise '
      'rewrite_echo_bytes', quote_ident(found.nspname), quote_ident(found.relname), why;
  end if;
  return jsonb_build_object('echo', null, 'why', why);
end
$function$;

-- Behind the statement's message: the rows of what it has rewritten.
create function logship.ddl_echo_rows() returns void
  language plpgsql volatile
as $function$
declare
  given jsonb;
  each record;
  role constant text := current_setting('session_replication_role');
begin
  with taken as (
    delete from logship.ddl_echo e where e.xid = pg_current_xact_id()::text::bigint returning e.relation, e.mode
  ) select jsonb_agg(to_jsonb(taken)) into given from taken;
  if given is null then
    return;
  end if;
  perform set_config('session_replication_role', 'replica', true);
  for each in
    select format('%I.%I', n.nspname, c.relname) as name, g ->> 'mode' as mode,
           format('pg_temp.%I', 'logship_echo_' || c.oid) as kept,
           (select string_agg(quote_ident(a.attname), ', ' order by a.attnum) from pg_catalog.pg_attribute a
             where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = '') as columns,
           (select quote_ident(a.attname) from pg_catalog.pg_attribute a
             where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
               and a.attidentity <> 'a' order by a.attnum limit 1) as one
      from jsonb_array_elements(given) g
      join pg_catalog.pg_class c on c.oid = (g ->> 'relation')::oid
      join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  loop
    if each.mode = 'update' and each.one is not null then
      execute format('update only %s set %s = %2$s', each.name, each.one);
    else
      execute format('create temporary table %s on commit drop as select %s from only %s', each.kept, each.columns, each.name);
      execute format('truncate only %s', each.name);
      execute format('insert into %s (%s) overriding system value select %2$s from %s', each.name, each.columns, each.kept);
      execute format('drop table %s', each.kept);
    end if;
  end loop;
  perform set_config('session_replication_role', role, true);
end
$function$;

-- Of the tables below an altered one, in which ADD COLUMN has left values that the rows of before have: the table's
-- own are among its facts.
create function logship.ddl_missing_below(object oid) returns jsonb
  language plpgsql stable
as $function$
begin
  if not exists (select from pg_catalog.pg_class c where c.oid = object and c.relhassubclass and c.relkind in ('r', 'p')) then
    return '{}';
  end if;
  return (
    with recursive below as (
      select h.inhrelid as oid from pg_catalog.pg_inherits h where h.inhparent = object
      union select h.inhrelid from pg_catalog.pg_inherits h join below b on b.oid = h.inhparent
    )
    select jsonb_build_object('below', coalesce(jsonb_agg(
             jsonb_build_array(n.nspname, c.relname, a.attname, (a.attmissingval::text::text[])[1]) order by c.oid, a.attnum), '[]'))
      from below b
      join pg_catalog.pg_class c on c.oid = b.oid and c.relkind = 'r' and c.relpersistence <> 't'
      join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.atthasmissing);
end
$function$;
revoke all on function logship.ddl_calls_users(text), logship.ddl_holds_code(oid), logship.ddl_new_columns(oid),
  logship.ddl_echo_of(oid, int), logship.ddl_echo_rows(), logship.ddl_missing_below(oid) from public;
