-- Made for one owner by logship.catalog.writers, which fills in {name}, {settings} and {kept}.
--
-- Runs one statement of DDL with its owner's rights, under the settings that it had on the primary: their names and
-- their values. They end with this function, whose own SET clause names each of them. The search_path among them is the
-- user's, so nothing here but the statement is looked up through it: what stands before it uses no operator, and
-- the first thing after it puts the path back. Why the rest: see write_as.sql.
create function {name}(statement text, settings text[], "values" text[]) returns void
  language plpgsql volatile parallel unsafe security definer
  {settings}
as $function$
declare
  kept constant text[] := {kept};
  before constant text[] := (
    select array_agg(pg_catalog.current_setting(k.name) order by k.place)
      from pg_catalog.unnest(kept) with ordinality as k (name, place));
  replication_role constant text := pg_catalog.current_setting('session_replication_role');
begin
  for place in 1 .. pg_catalog.cardinality(settings) loop
    perform pg_catalog.set_config(settings[place], "values"[place], true);
  end loop;
  execute statement;
  perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  set constraints all immediate;
  execute 'close all';
  if pg_catalog.current_setting('server_version_num')::int < 180000 and exists (
    select
      from pg_catalog.pg_trigger t
      join pg_catalog.pg_locks l on l.relation = t.tgrelid
     where t.tgdeferrable and t.tgenabled in ('A', 'R')
       and l.pid = pg_catalog.pg_backend_pid() and l.locktype = 'relation'
       and l.mode in ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
       and l.database = (select d.oid from pg_catalog.pg_database d
                          where d.datname = pg_catalog.current_database())
       -- Making such a trigger, or changing its table, queues nothing.
       and exists (select from pg_catalog.pg_locks w
                    where w.pid = l.pid and w.relation = l.relation and w.locktype = 'relation'
                      and w.mode = 'RowExclusiveLock')
  ) then
    raise exception 'a deferrable trigger that fires in replicas could run with more than its owner''s rights'
      using errcode = 'LS003',
            hint = 'make it not deferrable, or take ENABLE ALWAYS and ENABLE REPLICA from it (PostgreSQL 18 needs neither)';
  end if;
  if exists (select from pg_catalog.pg_prepared_statements s where s.from_sql) then
    raise exception 'user-written code left a prepared statement in the session' using errcode = 'LS003';
  end if;
  if pg_catalog.current_setting('session_replication_role') <> replication_role then
    raise exception 'user-written code changed session_replication_role' using errcode = 'LS003';
  end if;
  for place in 1 .. pg_catalog.cardinality(kept) loop
    if pg_catalog.current_setting(kept[place]) is distinct from before[place] then
      perform pg_catalog.set_config(kept[place], before[place], false);
    end if;
  end loop;
end
$function$
