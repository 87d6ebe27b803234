"""A lending library's tables."""
