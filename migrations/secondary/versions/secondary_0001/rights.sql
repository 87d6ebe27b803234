-- Whatever default privileges this database has: public reads the views, and waits. Nothing else.
create schema logship_writers;
revoke all on schema logship, logship_writers from public;
revoke all on all tables in schema logship from public;
revoke all on all functions in schema logship from public;
grant usage on schema logship to public;
grant select on logship.replica_lag, logship.stat_replay, logship.stat_object, logship.stat_ddl to public;
grant execute on function logship.wait_for(pg_catalog.pg_lsn, interval, text) to public;

comment on schema logship is 'logship: state of the replicas kept here; the views and wait_for are public interface';
comment on schema logship_writers is
  'logship: one function per owner of replicated tables, to write with its rights; for the replayer only';
comment on table logship.replica is 'one row per replica kept in this database; initialised_at NULL: init did not finish';
comment on table logship.position is 'how far each replica is, committed together with its rows; counters since init';
comment on table logship.left_out is 'tables without replica identity that init was told to leave out';
comment on table logship.copy_progress is 'tables that an init is filling or has filled; empty once it has finished';
comment on table logship.replay_report is 'what the replayer last reported of itself; emptied by a crash of this server';
comment on table logship.object_report is 'what the replayer last reported of each relation; emptied by a crash of this server';
comment on table logship.ddl_replayed is 'schema changes replayed here';
