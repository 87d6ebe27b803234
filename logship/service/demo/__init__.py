"""PostgreSQL servers of our own, a program run beside them, and the shop of `logship demo`."""
