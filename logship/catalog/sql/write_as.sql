-- Made for one owner by logship.catalog.writers, which fills in {name}, {parameters}, {settings} and {arguments}.
--
-- What users wrote (checks, defaults, generated columns, ALWAYS triggers, index expressions …) runs in
-- here with its owner's rights: a security definer function refuses SET ROLE and SET SESSION
-- AUTHORIZATION. What follows the statement makes sure that nothing of it is left to run later, at
-- commit or in the caller's session, with the caller's rights.
create function {name}(statement text, {parameters}) returns bigint
  language plpgsql volatile parallel unsafe security definer
  {settings}
as $function$
declare
  kept constant text[] := {kept};
  before constant text[] := (
    select array_agg(pg_catalog.current_setting(k.name) order by k.place)
      from pg_catalog.unnest(kept) with ordinality as k (name, place));
  replication_role constant text := pg_catalog.current_setting('session_replication_role');
  rows_affected bigint;
begin
  execute statement using {arguments};
  get diagnostics rows_affected = row_count;
  set constraints all immediate;
  -- The query of a cursor WITH HOLD would run at commit.
  execute 'close all';
  -- A trigger may defer again what it queued. Up to 17 that would run at commit, as the caller; an event that is
  -- queued holds a lock on its table.
  if pg_catalog.current_setting('server_version_num')::int < 180000 and exists (
    select
      from pg_catalog.pg_trigger t
      join pg_catalog.pg_locks l on l.relation = t.tgrelid
     where t.tgdeferrable and t.tgenabled in ('A', 'R')
       and l.pid = pg_catalog.pg_backend_pid() and l.locktype = 'relation'
       and l.mode in ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
       and l.database = (select d.oid from pg_catalog.pg_database d
                          where d.datname = pg_catalog.current_database())
  ) then
    raise exception 'a deferrable trigger that fires in replicas could run with more than its owner''s rights'
      using errcode = 'LS003',
            hint = 'make it not deferrable, or take ENABLE ALWAYS and ENABLE REPLICA from it (PostgreSQL 18 needs neither)';
  end if;
  -- A caller that uses prepared statements by name must get its own.
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
  return rows_affected;
end
$function$
