-- What sequences have reached is in no log that is decoded, so it is written there: as signed messages, by the
-- shipper once a second, and by a schema change that is about a sequence. A message says more than was reached,
-- by a margin: values that are handed out before the next one comes are not handed out again on the secondary.
create function logship.ddl_sequence_send(states jsonb) returns void
  language plpgsql volatile
as $function$
begin
  perform pg_logical_emit_message(true, 'logship.ddl', logship.ddl_sign(convert_to(
    (convert_from(logship.ddl_body('sequences', '', '', '{}', null, null), 'UTF8')::jsonb
      || jsonb_build_object('query', '', 'sequences', states))::text, 'UTF8')));
end
$function$;

-- How far the secondary is set: a margin beyond `value`, but of a sequence that comes to its end no more than half
-- of what is left.
create function logship.ddl_sequence_ahead(sequence oid, value bigint, steps numeric) returns bigint
  language sql stable
  set search_path = pg_catalog, pg_temp
return (
  select (ddl_sequence_ahead.value + sign(s.seqincrement) * trunc(least(
            abs(s.seqincrement::numeric) * greatest(ddl_sequence_ahead.steps, t.sequence_margin),
            abs(case when s.seqincrement > 0 then s.seqmax else s.seqmin end - ddl_sequence_ahead.value::numeric) / 2)))::bigint
    from pg_catalog.pg_sequence s, logship.ddl_setting t
   where s.seqrelid = ddl_sequence_ahead.sequence);

-- [schema, name, value, whether it was handed out]
create function logship.ddl_sequence_state(sequence oid, value bigint) returns jsonb
  language plpgsql volatile
as $function$
declare
  schema constant text := (select n.nspname from pg_catalog.pg_class c
                             join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = sequence);
  name constant text := (select c.relname from pg_catalog.pg_class c where c.oid = sequence);
  state record;
begin
  if value is null then
    execute format('select s.last_value, s.is_called from %I.%I s', schema, name) into state;
    return jsonb_build_array(schema, name, state.last_value, state.is_called);
  end if;
  return jsonb_build_array(schema, name, value, true);
end
$function$;

-- Called by the shipper: what has moved so far that a new message is due, or, when asked for, everything. How many
-- were written. Whoever may use the schema may call it: it writes nothing but what is so. A sequence that somebody alters is left for the next time, so that nobody waits.
create function logship.ddl_sequences(everything boolean) returns integer
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set lock_timeout = '100ms'
  set jit = off
as $function$
declare
  each record;
  ahead bigint;
  states jsonb := '[]';
  ours constant oid[] := array(select n.oid from pg_catalog.pg_namespace n where n.nspname in ('logship', 'logship_writers'));
  altered constant oid[] := (
    select array_agg(l.relation)
      from pg_catalog.pg_locks l
     where l.locktype = 'relation' and l.granted and l.pid <> pg_backend_pid()
       and l.mode in ('ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
       and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database()));
begin
  if not exists (select from pg_catalog.pg_event_trigger e
                  where e.evtname = '!logship_ddl_end' and e.evtenabled = 'A') then
    return 0;
  end if;
  -- Once a second, of all sequences: what is chosen here costs more than anything below.
  for each in
    with now as materialized (
      select s.seqrelid as oid, s.seqincrement::numeric as step, pg_sequence_last_value(s.seqrelid) as value
        from pg_catalog.pg_sequence s
        join pg_catalog.pg_class c on c.oid = s.seqrelid
       where c.relpersistence <> 't' and c.relnamespace <> all (ours) and (altered is null or s.seqrelid <> all (altered))
    )
    select now.oid, now.value, 10 * (now.value - k.value::numeric) / now.step
             / greatest(extract(epoch from clock_timestamp() - k.sent_at), 0.5) as steps
      from now
      left join logship.ddl_sequence k on k.relation = now.oid
     where everything or k.relation is null
        or (now.value is null) <> (k.value is null)
        or (now.value <> k.value
            and ((now.value - k.value::numeric) * now.step < 0
                 or (now.value - (k.value::numeric + k.ahead) / 2) * now.step > 0))
     order by now.oid
  loop
    ahead := logship.ddl_sequence_ahead(each.oid, each.value, each.steps);
    states := states || jsonb_build_array(logship.ddl_sequence_state(each.oid, ahead));
    insert into logship.ddl_sequence as k (relation, value, ahead, sent_at)
      values (each.oid, each.value, ahead, clock_timestamp())
      on conflict (relation) do update set value = excluded.value, ahead = excluded.ahead, sent_at = excluded.sent_at;
  end loop;
  if states <> '[]' then
    perform logship.ddl_sequence_send(states);
  end if;
  if everything then
    delete from logship.ddl_sequence k
     where not exists (select from pg_catalog.pg_sequence s where s.seqrelid = k.relation);
  end if;
  return jsonb_array_length(states);
end
$function$;

-- Of the sequences that a statement made or altered, behind its message and in its transaction.
create function logship.ddl_sequences_of(tag text, objects jsonb) returns void
  language plpgsql volatile
as $function$
declare
  object jsonb;
  value bigint;
  states jsonb := '[]';
begin
  for object in select distinct o from jsonb_array_elements(objects) o
                 where o ->> 'type' = 'sequence' and o ->> 'class' = 'pg_class' and o ? 'oid' loop
    value := pg_sequence_last_value((object ->> 'oid')::oid);
    -- One that nobody has drawn from is as its definition says, unless it was restarted.
    if value is not null or tag = 'ALTER SEQUENCE' then
      states := states || jsonb_build_array(logship.ddl_sequence_state(
        (object ->> 'oid')::oid, logship.ddl_sequence_ahead((object ->> 'oid')::oid, value, 0)));
    end if;
  end loop;
  if states <> '[]' then
    perform logship.ddl_sequence_send(states);
  end if;
end
$function$;
revoke all on function logship.ddl_sequence_send(jsonb), logship.ddl_sequence_ahead(oid, bigint, numeric),
  logship.ddl_sequence_state(oid, bigint), logship.ddl_sequences_of(text, jsonb) from public;
