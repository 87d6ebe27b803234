-- What the primary of docker-compose.yml is made with, once, by its superuser: roles with the least rights.
-- The passwords are secrets, mounted as files; psql reads them.
\set ON_ERROR_STOP on
\set app_password `cat /run/secrets/app_password`
\set logship_password `cat /run/secrets/logship_password`

-- The application: owns the database and its tables.
create role app login password :'app_password';
alter database app owner to app;

-- `logship init`: reads all tables, makes the slot and the schema logship; sees which transactions it waits for.
create role logship_init login replication password :'logship_password';
grant create on database app to logship_init;
grant pg_read_all_data, pg_read_all_stats to logship_init;

-- The shipper's role: no login, owns nothing. init gives it what it needs of the schema logship, and no more.
create role logship_shipper_app nologin;

-- `logship ship`: streams from the slot, and writes down that it ships.
create role logship login replication password :'logship_password';
grant logship_shipper_app to logship;

-- PostgreSQL lets only a superuser publish all tables. init uses this one, by its name.
create publication logship_app for all tables;
