"""The relay: serves the journal to replicas in PostgreSQL's streaming replication protocol."""
