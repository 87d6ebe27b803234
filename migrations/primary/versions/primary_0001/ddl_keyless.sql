-- A table without replica identity, once it is published, has its UPDATE and DELETE refused by PostgreSQL. So what
-- becomes of a new one is done by the statement that makes it (or takes its key away), in its own transaction.
-- One that is given a key later gets back what it had. What a parent loses its partitions and heirs lose, too, and the
-- statement names the parent only.
create function logship.ddl_keyless(objects jsonb) returns void
  language plpgsql volatile
as $function$
declare
  found record;
  setting text;
begin
  -- Almost always nothing is to be done: every table has a key that isn't deferrable. The facts say so, without a query.
  if not jsonb_path_exists(objects, '$[*] ? (@.class == "pg_class" && @.type == "table" && @.facts.persistence == "p"
      && !(@.facts.replica_identity == "d" && exists (
        @.facts.constraints[*] ? (@.type == "p" && !(@.definition like_regex "DEFERRABLE")))))') then
    return;
  end if;
  setting := (select s.keyless from logship.ddl_setting s);
  for found in
    select c.oid, c.relname, n.nspname, c.relreplident as identity,
           exists (select from pg_catalog.pg_index i
                    where i.indrelid = c.oid and i.indisprimary and i.indislive and i.indimmediate) as key,
           exists (select from pg_catalog.pg_index i
                    where i.indrelid = c.oid and i.indisreplident and i.indislive) as index,
           (select s.before from logship.identity_set s
             where s.schemaname = n.nspname and s.relname = c.relname) as before
      from (with recursive below as (
              select (o ->> 'oid')::oid as oid, 0 as depth from jsonb_array_elements(objects) o
               where o ->> 'class' = 'pg_class' and o ->> 'type' = 'table'
              union
              select h.inhrelid, b.depth + 1 from below b join pg_catalog.pg_inherits h on h.inhparent = b.oid)
            select b.oid, max(b.depth) as depth from below b group by b.oid) given
      join pg_catalog.pg_class c on c.oid = given.oid
      join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where c.relkind in ('r', 'p') and c.relpersistence = 'p'
       and exists (
         select from logship.replica r join pg_catalog.pg_publication p on p.pubname = r.publication
          where (p.pubupdate or p.pubdelete)
            and (p.puballtables
                 or exists (select from pg_catalog.pg_publication_rel e where e.prpubid = p.oid and e.prrelid = c.oid)
                 or exists (select from pg_catalog.pg_publication_namespace e
                             where e.pnpubid = p.oid and e.pnnspid = c.relnamespace)))
     order by given.depth desc
  loop
    if found.identity = 'f' then
      if found.before = 'default' and found.key then
        execute format('alter table only %I.%I replica identity default', found.nspname, found.relname);
        delete from logship.identity_set s where s.schemaname = found.nspname and s.relname = found.relname;
      end if;
      continue;
    end if;
    continue when case found.identity when 'd' then found.key when 'i' then found.index else false end;
    if setting = 'refuse' then
      raise warning 'table %.% has no replica identity, and is published: its UPDATE and DELETE will be refused',
        quote_ident(found.nspname), quote_ident(found.relname)
        using hint = 'Give it a primary key, or a REPLICA IDENTITY.';
      continue;
    end if;
    insert into logship.identity_set (schemaname, relname, before)
      values (found.nspname, found.relname, case found.identity when 'd' then 'default' else 'nothing' end)
      on conflict do nothing;
    execute format('alter table only %I.%I replica identity full', found.nspname, found.relname);
  end loop;
end
$function$;

-- Tables whose key may have gone with something else (DROP INDEX, DROP TYPE … CASCADE), as ddl_keyless takes them. Of an
-- index nobody says any more whose it was; a replica identity that names none is known by that. For sql_drop only.
create function logship.ddl_keys_dropped() returns jsonb
  language plpgsql volatile
as $function$
declare
  dropped jsonb;
begin
  dropped := (select jsonb_agg(jsonb_build_array(d.object_type, d.address_names[1], d.address_names[2]))
                from pg_event_trigger_dropped_objects() d
               where d.object_type in ('index', 'table constraint', 'table column') and not d.is_temporary);
  if dropped is null then
    return null;
  end if;
  return (
    select jsonb_agg(jsonb_build_object('class', 'pg_class', 'type', 'table', 'oid', c.oid::bigint,
                                        'facts', jsonb_build_object('persistence', c.relpersistence)))
      from pg_catalog.pg_class c
     where c.oid in (select x.oid from jsonb_array_elements(dropped) d
                       join pg_catalog.pg_namespace n on n.nspname = d ->> 1
                       join pg_catalog.pg_class x on x.relnamespace = n.oid and x.relname = d ->> 2
                      where d ->> 0 <> 'index')
        or dropped @> '[["index"]]' and c.relreplident = 'i' and not exists (
             select from pg_catalog.pg_index i where i.indrelid = c.oid and i.indisreplident and i.indislive));
end
$function$;
revoke all on function logship.ddl_keyless(jsonb), logship.ddl_keys_dropped() from public;
