-- Which changes a replayer that begins has to pass over; from here on `advance` lets it commit.
create function logship.notice_copies(replica text)
  returns table (schemaname text, relname text, lsn pg_catalog.pg_lsn)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $function$
#variable_conflict use_column
begin
  delete from logship.copied c using logship.position p
   where c.replica = notice_copies.replica and p.replica = c.replica and p.replay_lsn >= c.lsn;
  update logship.copied c set noticed = true where c.replica = notice_copies.replica and not c.noticed;
  return query
    select c.schemaname, c.relname, c.lsn from logship.copied c where c.replica = notice_copies.replica;
end
$function$;

comment on function logship.notice_copies(text) is
  'the tables whose changes from transactions committed before lsn a replayer must pass over';
