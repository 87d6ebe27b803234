-- Whatever default privileges this database has: public reads the views, waits, and asks. Nothing else.
create schema logship_writers;
revoke all on schema logship, logship_writers from public;
revoke all on all tables in schema logship from public;
revoke all on all functions in schema logship from public;
grant usage on schema logship to public;
grant select on logship.replica_lag, logship.stat_replay, logship.stat_object, logship.stat_ddl to public;
grant select, delete, insert (replica, slot, token, question, expires_at) on logship.my_memory_request to public;
grant select on logship.my_memory_reply to public;
grant execute on function logship.wait_for(pg_catalog.pg_lsn, interval, text) to public;

comment on schema logship is 'logship: state of the replicas kept here; the views and wait_for are public interface';
comment on schema logship_writers is
  'logship: one function per owner of replicated tables, to write with its rights; for the replayer only';
