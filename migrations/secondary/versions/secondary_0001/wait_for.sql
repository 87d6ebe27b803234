-- Security invoker: it reads only what public may read. Polls, because a notification would need a
-- commit of its own on the replayer's side for everyone who waits.
create function logship.wait_for(
  lsn pg_catalog.pg_lsn,
  timeout interval default '10 s',
  stage text default 'persistence'
) returns boolean
  language plpgsql volatile parallel unsafe
  set search_path = pg_catalog, pg_temp
as $function$
declare
  ends constant timestamptz := clock_timestamp() + wait_for.timeout;
  nap double precision := 0.001;
  replicas bigint;
  behind bigint;
begin
  if wait_for.lsn is null then
    raise exception 'lsn must not be null' using errcode = 'null_value_not_allowed';
  end if;
  if wait_for.timeout is null or wait_for.timeout < interval '0' then
    raise exception 'timeout must be an interval that is not negative' using errcode = 'invalid_parameter_value';
  end if;
  if wait_for.stage is null or wait_for.stage not in ('received', 'flushed', 'memory', 'persistence') then
    raise exception 'unknown stage: %', coalesce(quote_literal(wait_for.stage), 'null')
      using errcode = 'invalid_parameter_value', hint = 'the stages are received, flushed, memory and persistence';
  end if;
  loop
    select count(*), count(*) filter (where l.lsn is null or l.lsn < wait_for.lsn)
      into replicas, behind
      from logship.replica_lag l
     where l.stage = wait_for.stage;
    if replicas = 0 then
      raise exception 'no replica is initialised here'
        using errcode = 'object_not_in_prerequisite_state', hint = 'run logship init';
    elsif behind = 0 then
      return true;
    elsif current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
      raise exception 'wait_for can not see progress in a % transaction', current_setting('transaction_isolation')
        using errcode = 'invalid_transaction_state', hint = 'call it before, or in READ COMMITTED';
    elsif clock_timestamp() >= ends then
      return false;
    end if;
    perform pg_sleep(least(nap, greatest(extract(epoch from ends - clock_timestamp()), 0)));
    nap := least(nap * 2, 0.05);
  end loop;
end
$function$;

comment on function logship.wait_for(pg_catalog.pg_lsn, interval, text) is
  'waits until every replica here has reached lsn at the stage: true, or false when timeout passes first';
