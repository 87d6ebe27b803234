-- The keys that sign schema changes. A role with pg_read_all_data reads every table, and a publication FOR ALL
-- TABLES carries every ordinary one, so each key lies in two parts: `ddl_key` is guarded by row security, which
-- pg_read_all_data does not pass, and `ddl_share` is a materialized view, which is never published. Neither
-- is worth anything without the other. (An unlogged table would be empty after a crash.)
alter table logship.ddl_key enable row level security;

-- REFRESH MATERIALIZED VIEW, from a script that refreshes them all, gives the same share again.
create function logship.ddl_share() returns bytea
  language plpgsql volatile security invoker
  set search_path = pg_catalog, pg_temp
as $function$
declare
  kept bytea;
begin
  if exists (select from pg_catalog.pg_class c where c.oid = to_regclass('logship.ddl_share') and c.relispopulated) then
    execute 'select s.share from logship.ddl_share s' into kept;
  end if;
  return coalesce(kept, sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())));
end
$function$;
create materialized view logship.ddl_share as select logship.ddl_share() as share;

-- Of 32 bytes each. Called by what pins the path.
create function logship.ddl_xor(a bytea, b bytea) returns bytea
  language plpgsql immutable
as $function$
declare
  mixed constant bit(256) := ('x' || encode(a, 'hex'))::bit(256) # ('x' || encode(b, 'hex'))::bit(256);
begin
  return int8send(substring(mixed from 1 for 64)::bigint) || int8send(substring(mixed from 65 for 64)::bigint)
      || int8send(substring(mixed from 129 for 64)::bigint) || int8send(substring(mixed from 193 for 64)::bigint);
end
$function$;

create function logship.ddl_keys(out generation int, out key bytea) returns setof record
  language sql volatile security definer
  set search_path = pg_catalog, pg_temp
  set jit = off
begin atomic
  select k.generation, logship.ddl_xor(k.sealed, sha256(s.share || int4send(k.generation)))
    from logship.ddl_key k, logship.ddl_share s order by 1;
end;

revoke all on table logship.ddl_key, logship.ddl_share from public;
revoke all on function logship.ddl_share(), logship.ddl_xor(bytea, bytea), logship.ddl_keys() from public;
