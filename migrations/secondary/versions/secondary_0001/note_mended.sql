-- Rows of a table were written at the replica's position, beside the log: a replayer that runs begins again,
-- so that memory has them too. In the transaction that writes them, which holds the position's row.
create function logship.note_mended(replica text, schemaname text, relname text) returns void
  language sql volatile security definer
  set search_path = pg_catalog, pg_temp
as $function$
  insert into logship.copied (replica, schemaname, relname, lsn)
  select p.replica, note_mended.schemaname, note_mended.relname, p.replay_lsn
    from logship.position p
   where p.replica = note_mended.replica
      on conflict (replica, schemaname, relname) do update set noticed = false;
$function$;

comment on function logship.note_mended(text, text, text) is
  'rows of this table were mended at the replica''s position: the replayer begins again, and loads it anew';
