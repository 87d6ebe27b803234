-- Declared by both functions that run with an owner's rights; logship.catalog.writers fills in {kept}.
  kept constant text[] := {kept};
  before constant text[] := (
    select array_agg(pg_catalog.current_setting(k.name) order by k.place)
      from pg_catalog.unnest(kept) with ordinality as k (name, place));
  replication_role constant text := pg_catalog.current_setting('session_replication_role');
