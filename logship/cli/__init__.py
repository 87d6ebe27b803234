"""The command line: one module per group of commands, composed from `logship.service`."""

from logship.cli.main import main

__all__ = ["main"]
