create view logship.replica_lag as
select r.name as replica,
       s.stage,
       s.lsn,
       -- What was received is in the primary's log, whatever it answered last. greatest() alone would make 0 of
       -- an unknown difference.
       case when t.primary_lsn is not null and s.lsn is not null
            then greatest(greatest(t.primary_lsn, t.received_lsn) - s.lsn, 0)::bigint end as lag_bytes,
       -- Who doesn't report any more measures nothing: what was lacking then is older by now, and where nothing was,
       -- all that is known is since when nobody has looked.
       case when t.reported_at >= pg_catalog.clock_timestamp() - interval '10 s' then s.lag
            when s.lag > interval '0' then s.lag + (pg_catalog.clock_timestamp() - t.reported_at)
            else s.lag + (pg_catalog.clock_timestamp() - least(t.primary_lsn_at, t.reported_at))
       end as lag,
       least(t.primary_lsn_at, t.reported_at) as as_of
  from logship.replica r
  left join logship.position p on p.replica = r.name
  left join logship.replay_report t on t.replica = r.name
 cross join lateral (values
         ('received'::text, t.received_lsn, t.received_lag),
         ('flushed', t.flush_lsn, t.flushed_lag),
         ('memory', t.memory_lsn, t.memory_lag),
         -- the position itself, which is committed with the rows, and not what was said of it
         ('persistence', p.replay_lsn, t.persistence_lag)
       ) as s (stage, lsn, lag);

comment on view logship.replica_lag is
  'how far each stage of each replica is behind the primary, as last reported; NULL is unknown, never 0';
comment on column logship.replica_lag.replica is 'name of the replica';
comment on column logship.replica_lag.stage is
  'received: in the journal file; flushed: fsynced there; memory: shown to readers of memory; persistence: committed here';
comment on column logship.replica_lag.lsn is
  'end LSN (of the primary) up to which the stage has everything; NULL when unknown, or when there is no memory';
comment on column logship.replica_lag.lag_bytes is
  'bytes of WAL between the primary''s position, as of as_of or as received since, and lsn; never negative';
comment on column logship.replica_lag.lag is
  'age of the oldest commit that the stage lacks, as last reported; after 10 s without a report it grows with that report''s age';
comment on column logship.replica_lag.as_of is 'what this is true of: when the primary''s position was last heard of, and no later than the last report';

create view logship.stat_replay as
select r.name as replica,
       t.state,
       t.received_lsn,
       t.flush_lsn,
       t.memory_lsn,
       p.replay_lsn,
       p.transactions,
       p.changes,
       p.batches,
       p.coalesced,
       p.bytes,
       t.last_error,
       t.last_error_time,
       t.reported_at
  from logship.replica r
  left join logship.position p on p.replica = r.name
  left join logship.replay_report t on t.replica = r.name;

comment on view logship.stat_replay is 'one row per replica: its state and positions, and what it has replayed since init';
comment on column logship.stat_replay.replica is 'name of the replica';
comment on column logship.stat_replay.state is
  'what was last reported, at reported_at; NULL when nothing was, since init or since a crash of this server';
comment on column logship.stat_replay.received_lsn is 'end LSN up to which the journal file has everything';
comment on column logship.stat_replay.flush_lsn is 'end LSN up to which the journal is fsynced';
comment on column logship.stat_replay.memory_lsn is 'end LSN up to which readers of memory see everything; NULL without memory';
comment on column logship.stat_replay.replay_lsn is 'end LSN up to which everything is committed here, with this position';
comment on column logship.stat_replay.transactions is 'transactions of the primary committed here';
comment on column logship.stat_replay.changes is 'row changes of the log in those transactions';
comment on column logship.stat_replay.batches is 'commits here that carried them';
comment on column logship.stat_replay.coalesced is 'row changes that coalescing made unnecessary';
comment on column logship.stat_replay.bytes is 'bytes of log messages';
comment on column logship.stat_replay.last_error is 'the last error that stopped or delayed the replica; without row values';
comment on column logship.stat_replay.last_error_time is 'when it happened';
comment on column logship.stat_replay.reported_at is 'when the replayer last reported; an old one means that it does not run';

create view logship.stat_object as
select o.schemaname,
       o.relname,
       o.residence,
       o.rows,
       o.bytes,
       o.loads,
       o.evictions,
       o.dml_memory,
       o.dml_persistence,
       o.ddl_memory,
       o.ddl_persistence,
       o.last_change_lsn,
       o.hits,
       o.merges,
       o.merge_time,
       o.reason
  from logship.object_report o;

comment on view logship.stat_object is 'one row per replicated relation and replica, as last reported';
comment on column logship.stat_object.schemaname is 'schema of the relation';
comment on column logship.stat_object.relname is 'name of the relation';
comment on column logship.stat_object.residence is 'cold: in persistence only; loading; resident: in memory too; pinned: likewise, and never evicted to make room; evicting: in memory until persistence has all of it';
comment on column logship.stat_object.rows is 'rows in memory; NULL when cold';
comment on column logship.stat_object.bytes is 'bytes in memory, estimated; NULL when cold';
comment on column logship.stat_object.loads is 'times it was loaded into memory since the replayer started';
comment on column logship.stat_object.evictions is 'times it was evicted from memory since the replayer started';
comment on column logship.stat_object.dml_memory is 'row changes applied to memory since the replayer started';
comment on column logship.stat_object.dml_persistence is 'row changes applied to persistence since the replayer started';
comment on column logship.stat_object.ddl_memory is 'schema changes applied to memory since the replayer started';
comment on column logship.stat_object.ddl_persistence is 'schema changes applied to persistence since the replayer started';
comment on column logship.stat_object.last_change_lsn is 'end LSN of the last transaction that changed it';
comment on column logship.stat_object.hits is 'queries that read it in memory since the replayer started';
comment on column logship.stat_object.merges is 'times its latest changes were merged into its main part since the replayer started';
comment on column logship.stat_object.merge_time is 'what those merges took';
comment on column logship.stat_object.reason is 'why it is not in memory, or goes; NULL: nothing to say';

create view logship.stat_ddl as
select d.lsn,
       d.replayed_at,
       d.owner,
       d.tag,
       d.statement,
       d.target,
       d.made_from,
       d.duration
  from logship.ddl_replayed d;

comment on view logship.stat_ddl is 'one row per replayed schema change: the newest, as --ddl-history and --ddl-history-age say';
comment on column logship.stat_ddl.lsn is 'LSN of the commit that it is part of';
comment on column logship.stat_ddl.replayed_at is 'when it ran here';
comment on column logship.stat_ddl.owner is 'role with whose rights it ran';
comment on column logship.stat_ddl.tag is 'command tag, such as ALTER TABLE';
comment on column logship.stat_ddl.statement is 'the text that ran';
comment on column logship.stat_ddl.target is 'memory, persistence or both';
comment on column logship.stat_ddl.made_from is 'text: the primary''s own words; facts: made from its catalog; skipped: an operator passed it over';
comment on column logship.stat_ddl.duration is 'how long it ran';
