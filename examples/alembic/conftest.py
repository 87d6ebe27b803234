"""Gives the tests a primary, a secondary, and logship between them."""

pytest_plugins = ["logship.testing.plugin"]
