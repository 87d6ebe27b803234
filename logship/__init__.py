"""logship keeps a second PostgreSQL in step with a first one by shipping its log and replaying it."""

__version__ = "0.1.0"
