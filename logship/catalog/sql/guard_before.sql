-- Declared by both functions that run with an owner's rights; logship.catalog.writers fills in {kept}
-- and {settings_now}., which is an expression, since a query costs each call several times as much.
  kept constant text[] := {kept};
  before constant text[] := {settings_now};
  replication_role constant text := pg_catalog.current_setting('session_replication_role');
