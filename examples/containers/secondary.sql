-- What the secondary of docker-compose.yml is made with, once, by its superuser: roles with the least rights.
\set ON_ERROR_STOP on
\set app_password `cat /run/secrets/app_password`
\set logship_password `cat /run/secrets/logship_password`

-- Owns the tables here too. It may log in to read; what it writes makes the replica differ.
create role app login password :'app_password';
alter database app owner to app;

-- The replayer's role: no login, owns nothing. PostgreSQL lets only a superuser grant these.
create role logship_replayer_app nologin;
grant pg_read_all_data to logship_replayer_app;
grant set on parameter session_replication_role to logship_replayer_app;
grant execute on function
  pg_catalog.pg_replication_origin_session_setup(text),
  pg_catalog.pg_replication_origin_session_reset(),
  pg_catalog.pg_replication_origin_session_is_setup(),
  pg_catalog.pg_replication_origin_session_progress(boolean),
  pg_catalog.pg_replication_origin_xact_setup(pg_lsn, timestamptz),
  pg_catalog.pg_replication_origin_xact_reset(),
  pg_catalog.pg_replication_origin_oid(text),
  pg_catalog.pg_replication_origin_progress(text, boolean)
  to logship_replayer_app;

-- `logship init`: makes tables that belong to app, the schema logship, the replication origin.
create role logship_init login password :'logship_password';
grant create on database app to logship_init;
grant app, logship_replayer_app to logship_init;
grant execute on function
  pg_catalog.pg_replication_origin_create(text), pg_catalog.pg_replication_origin_drop(text)
  to logship_init;

-- `logship replay`: the replayer's role, and nothing else.
create role logship login password :'logship_password';
grant logship_replayer_app to logship;
