-- A replication origin belongs to one session at a time: a replayer that writes with several needs one for each.
-- The first session's is logship.replica.origin; the others' are made here, when they are first asked for.
create function logship.session_origin(replica text, number int)
  returns text
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $function$
declare
  made text;
begin
  if session_origin.number is null or session_origin.number not between 2 and 8 then
    raise exception 'sessions beside the first are numbered 2 to 8' using errcode = 'invalid_parameter_value';
  end if;
  select 'logship.' || session_origin.number || '.' || r.origin into made
    from logship.replica r where r.name = session_origin.replica;
  if made is not null and not exists (select from pg_replication_origin o where o.roname = made) then
    perform pg_replication_origin_create(made);
  end if;
  return made;
end
$function$;

comment on function logship.session_origin(text, int) is
  'the replication origin of one more session of a replayer, made where it is missing; null: no such replica';
