-- What follows the statement in both functions that run with an owner's rights: it makes sure that nothing of what
-- users wrote is left to run later, at commit or in the caller's session, with the caller's rights.
  set constraints all immediate;
  -- The query of a cursor WITH HOLD would run at commit.
  execute 'close all';
  -- A trigger may defer again what it queued. Up to 17 that would run at commit, as the caller. What queued it has
  -- written rows, and holds the lock of that on the table; making such a trigger, or changing its table, doesn't.
  if pg_catalog.current_setting('server_version_num')::int < 180000 and exists (
    select
      from pg_catalog.pg_trigger t
      join pg_catalog.pg_locks l on l.relation = t.tgrelid
     where t.tgdeferrable and t.tgenabled in ('A', 'R')
       and l.pid = pg_catalog.pg_backend_pid() and l.locktype = 'relation' and l.mode = 'RowExclusiveLock'
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
  if not ({settings_now} operator(pg_catalog.=) before) then
    for place in 1 .. pg_catalog.cardinality(kept) loop
      if pg_catalog.current_setting(kept[place]) is distinct from before[place] then
        perform pg_catalog.set_config(kept[place], before[place], false);
      end if;
    end loop;
  end if;
