-- Column for column pg_stat_replication (15 to 18 have the same), so that what reads one reads the other.
-- The shipper reports once a second; a report older than that by far means that nobody knows: then what can
-- only be said of now (state, lags, who is synchronous) is NULL. Positions never move back, so the last
-- ones are still true, and reply_time shows how old they are.
-- replica_by_slot says of which shipper each row is: two of one primary may have clients of one name.
create view logship.replica_by_slot as
select coalesce(t.slot, r.slot) as slot,
       case when f.fresh then t.pid end as pid,
       a.oid as usesysid,
       t.usename::pg_catalog.name as usename,
       coalesce(t.replica, r.name) as application_name,
       t.client_addr,
       null::pg_catalog.text as client_hostname,
       t.client_port,
       case when f.fresh then t.backend_start end as backend_start,
       null::pg_catalog.xid as backend_xmin,
       case when f.fresh then t.state end as state,
       t.sent_lsn,
       t.write_lsn,
       t.flush_lsn,
       t.replay_lsn,
       case when f.fresh then t.write_lag end as write_lag,
       case when f.fresh then t.flush_lag end as flush_lag,
       case when f.fresh then t.replay_lag end as replay_lag,
       t.sync_priority,
       case when f.fresh then t.sync_state end as sync_state,
       t.reply_time
  from logship.replica r
  full join logship.replication_report t on t.slot = r.slot and t.replica = r.name
  left join pg_catalog.pg_roles a on a.rolname = t.usename
 cross join lateral (
         select t.reported_at > pg_catalog.clock_timestamp() - interval '10 s' as fresh
       ) as f;

comment on view logship.replica_by_slot is 'the rows of logship.stat_replication, with the slot that the shipper reads';

create view logship.stat_replication as
select s.pid, s.usesysid, s.usename, s.application_name, s.client_addr, s.client_hostname, s.client_port,
       s.backend_start, s.backend_xmin, s.state, s.sent_lsn, s.write_lsn, s.flush_lsn, s.replay_lsn,
       s.write_lag, s.flush_lag, s.replay_lag, s.sync_priority, s.sync_state, s.reply_time
  from logship.replica_by_slot s;

comment on view logship.stat_replication is
  'one row per replica of the shipper, as pg_stat_replication has one per walsender; those that are away included';
comment on column logship.stat_replication.pid is 'what the shipper told the client as its process; NULL when it is away';
comment on column logship.stat_replication.usesysid is 'OID of the role of that name here; NULL when there is none';
comment on column logship.stat_replication.usename is 'user that the replica came to the shipper as';
comment on column logship.stat_replication.application_name is 'name of the replica: what a policy lists';
comment on column logship.stat_replication.client_addr is 'where it came from; NULL: a Unix socket, the shipper''s own process, or it is away';
comment on column logship.stat_replication.client_hostname is 'always NULL: the shipper asks no name server';
comment on column logship.stat_replication.client_port is 'its TCP port; -1: a Unix socket';
comment on column logship.stat_replication.backend_start is 'when it connected; NULL when it is away';
comment on column logship.stat_replication.backend_xmin is 'always NULL: a replica holds back no vacuum here';
comment on column logship.stat_replication.state is
  'startup, catchup, streaming; away: registered and not connected; fractured: commits no longer wait for it; lost: retention dropped what it needs. NULL: the shipper doesn''t report';
comment on column logship.stat_replication.sent_lsn is 'everything up to here was sent to it';
comment on column logship.stat_replication.write_lsn is 'handed to its journal file; the last that it said';
comment on column logship.stat_replication.flush_lsn is 'fsynced in its journal; the last that it said';
comment on column logship.stat_replication.replay_lsn is 'committed there; the last that it said';
comment on column logship.stat_replication.write_lag is 'age of the oldest log that it hasn''t written, or what the last took; NULL: nothing to measure, or not known';
comment on column logship.stat_replication.flush_lag is 'the same for flush';
comment on column logship.stat_replication.replay_lag is 'the same for replay';
comment on column logship.stat_replication.sync_priority is 'its place in the shipper''s policy; 0: asynchronous';
comment on column logship.stat_replication.sync_state is 'async, potential, sync or quorum, by the shipper''s policy';
comment on column logship.stat_replication.reply_time is 'when it was last heard of, by the shipper''s clock';

-- Who sees the details of pg_stat_replication sees these.
grant usage on schema logship to pg_read_all_stats;
grant select on logship.stat_replication to pg_read_all_stats;
