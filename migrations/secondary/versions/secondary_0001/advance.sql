-- The position moves here and nowhere else; the counters are what this step adds.
create function logship.advance(
  replica text,
  expected pg_catalog.pg_lsn,
  reached pg_catalog.pg_lsn,
  commit_time timestamptz,
  transactions bigint,
  changes bigint,
  batches bigint,
  coalesced bigint,
  bytes bigint
) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $function$
begin
  if advance.expected is null or advance.reached is null then
    raise exception 'a position must not be null' using errcode = 'null_value_not_allowed';
  end if;
  if advance.reached < advance.expected then
    raise exception 'a position never moves backwards: from % to %', advance.expected, advance.reached
      using errcode = 'LS002';
  end if;
  update logship.position p
     set replay_lsn = advance.reached,
         commit_time = coalesce(advance.commit_time, p.commit_time),
         transactions = p.transactions + coalesce(advance.transactions, 0),
         changes = p.changes + coalesce(advance.changes, 0),
         batches = p.batches + coalesce(advance.batches, 0),
         coalesced = p.coalesced + coalesce(advance.coalesced, 0),
         bytes = p.bytes + coalesce(advance.bytes, 0)
   where p.replica = advance.replica
     and p.replay_lsn = advance.expected;
  if not found then
    raise exception 'replica % is not at %: somebody else moved its position', advance.replica, advance.expected
      using errcode = 'LS001', hint = 'another replayer of this replica runs, or ran; only one may';
  end if;
  -- Whoever copies a table holds the position's row until its commit: so what it wrote is seen here.
  if exists (select from logship.copied c where c.replica = advance.replica and not c.noticed) then
    raise exception 'tables of replica % were copied anew', advance.replica
      using errcode = 'LS004', hint = 'begin again from the position, after logship.notice_copies';
  end if;
end
$function$;

comment on function logship.advance(text, pg_catalog.pg_lsn, pg_catalog.pg_lsn, timestamptz,
                                    bigint, bigint, bigint, bigint, bigint) is
  'moves a replica''s position from expected to reached and adds to its counters; LS001: it was not there, LS002: backwards, LS004: tables were copied anew';
