"""`logship verifier NAME`: a line for the file that `logship ship --users` reads.

In: a password, from the terminal (asked for twice, not shown) or as the one line of standard input. Out: the
line on standard output. The password can't be had from it.
"""

from __future__ import annotations

import sys

import click

from logship.errors import UsageError

_LONGEST = 1000  # far more than libpq's clients send


@click.command("verifier")
@click.argument("name")
def verifier(name: str) -> None:
    """Print a user and the SCRAM verifier of a password, as the file of `ship --users` has them.

    The password is asked for, or read from standard input: never an argument, which everybody can see.
    """
    from logship.service.ship.users import verifier_line

    if not name or "\n" in name or "\0" in name:
        raise UsageError("that is no user's name", hint="give the name that the client logs in with")
    click.echo(verifier_line(name, _password(name)))


def _password(name: str) -> str:
    if sys.stdin.isatty():
        return str(
            click.prompt(f"Password for {name}", hide_input=True, confirmation_prompt="Again", err=True)
        )
    line = sys.stdin.readline(_LONGEST).removesuffix("\n")
    if not line:
        raise UsageError(
            "there is no password on standard input", hint="write it there, or run this at a terminal"
        )
    return line
