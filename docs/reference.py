"""Makes docs/reference.md and docs/errors.md from the code: `make docs`. A test fails when they are stale.

In: the command line, the exit codes, the errors that the code raises, the figures, and the views as a server
has them once logship's schema is made there. Out: Markdown. Whoever changes one of these runs `make docs`.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import click
import psycopg

import logship
from logship import errors, metrics
from logship.catalog import migrate
from logship.cli import settings
from logship.cli.main import INTERRUPTED
from logship.cli.main import logship as command_line
from logship.cli.quantity import Duration, Size, written, written_s
from logship.connection import Side
from logship.service.demo.servers import Server, find_binaries

DOCS = Path(__file__).parent
# What is caught inside, and ends a program only as the cause of another error.
INTERNAL = {"CouldNotLoad", "Malformed", "ReplayStopped", "Short", "TransactionLost"}
_VIEWS = """
select c.relname, pg_catalog.obj_description(c.oid), a.attname,
       pg_catalog.format_type(a.atttypid, a.atttypmod), pg_catalog.col_description(c.oid, a.attnum)
  from pg_catalog.pg_class c
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0
 where c.relnamespace = 'logship'::pg_catalog.regnamespace and c.relkind = 'v'
 order by 1, a.attnum
"""
_FUNCTIONS = """
select p.proname, pg_catalog.pg_get_function_arguments(p.oid), pg_catalog.pg_get_function_result(p.oid),
       pg_catalog.obj_description(p.oid)
  from pg_catalog.pg_proc p
 where p.pronamespace = 'logship'::pg_catalog.regnamespace
   and pg_catalog.has_function_privilege('public', p.oid, 'execute')
 order by 1
"""
_EXIT_CODES = {
    0: "done; `logship run`: ended as it was told to",
    1: "the answer is no: the sides differ, something blocks, something is left",
    errors.UsageError.exit_code: "usage or settings",
    errors.PrimaryError.exit_code: "the primary can't be reached, refuses, or isn't set up",
    errors.SecondaryError.exit_code: "the secondary can't be reached, refuses, or isn't set up",
    errors.JournalError.exit_code: "the journal can't be read or written",
    errors.RefusedAsUnsafe.exit_code: "refused as unsafe: it could lose or double data",
    errors.ReplayError.exit_code: "a change can't be replayed; nothing was skipped",
    errors.InternalError.exit_code: "a defect of logship's own",
    INTERRUPTED: "interrupted by Ctrl-C or SIGTERM, where that is not the normal end",
}


def reference(primary: str, secondary: str) -> str:
    """docs/reference.md; both are databases with the schema logship of their side."""
    return "\n".join(
        [
            "# Reference",
            "",
            "Every command, setting, view and figure. Made from the code by `make docs`; not edited by hand.",
            "[errors.md](errors.md) has every error and what to do about it.",
            "",
            *_commands(),
            *_settings(),
            *_exit_codes(),
            "## Views on the secondary",
            "",
            *_views(secondary),
            *_functions(secondary),
            "## View on the primary",
            "",
            *_views(primary),
            *_metrics(),
        ]
    )


# -- commands and settings -------------------------------------------------------------------------


def _known() -> list[tuple[tuple[str, ...], click.Command]]:
    ctx = click.Context(command_line)
    found = []
    for known in settings.commands(command_line, ctx):
        command: click.Command = command_line
        for word in known.path:
            assert isinstance(command, click.Group)
            below = command.get_command(ctx, word)
            assert below is not None
            command = below
        if not isinstance(command, click.Group):
            found.append((known.path, command))
    return found


def _commands() -> Iterator[str]:
    yield "## Commands"
    yield ""
    yield from _table("before the command", "default", "meaning", rows=_options(command_line))
    for path, command in _known():
        yield f"### logship {' '.join(path)}"
        yield ""
        arguments = [
            p.make_metavar(click.Context(command)) for p in command.params if isinstance(p, click.Argument)
        ]
        yield f"`logship {' '.join([*path, *arguments])} [OPTIONS]`"
        yield ""
        yield from (inspect.cleandoc(command.help or "").replace("\f", "").splitlines())
        yield ""
        yield from _table("option", "default", "meaning", rows=_options(command))


def _options(command: click.Command) -> list[tuple[str, ...]]:
    return [
        (_written(option), _default(option), (option.help or "").replace("|", "\\|"))
        for option in settings.options_of(command).values()
    ]


def _written(option: click.Option) -> str:
    flag = "/".join([*option.opts, *option.secondary_opts])
    metavar = option.make_metavar(click.Context(click.Command(""))).replace("|", "\\|")
    return f"`{flag}`" if option.is_flag else f"`{flag} {metavar}`"


def _default(option: click.Option) -> str:
    default = option.default
    if option.required:
        return "required"
    if isinstance(option.show_default, str):
        return option.show_default
    if option.is_flag or default is None or callable(default) or not isinstance(default, str | int | float):
        return ""
    if isinstance(option.type, Size) and isinstance(default, int):
        return written(default)
    if isinstance(option.type, Duration):
        return written_s(float(default))
    return str(default)


def _settings() -> Iterator[str]:
    yield "## Settings"
    yield ""
    yield "A flag wins over its variable, and that over `logship.toml` (`--config FILE`, `LOGSHIP_CONFIG`). In the file"
    yield "a key is the option without its dashes; at the top it is for every command that has the option, in a table"
    yield "like `[run]` for that command. `logship config show` says what is in force."
    yield "Sizes: B, kB, MB, GB, TB; durations: us, ms, s, min, h, d."
    yield ""
    by_variable: dict[str, list[str]] = {}
    for path, command in _known():
        for option in settings.options_of(command).values():
            if isinstance(option.envvar, str):
                by_variable.setdefault(option.envvar, []).append(" ".join(path))
    yield from _table(
        "variable", "key", "commands",
        rows=[
            (f"`{variable}`", f"`{variable.removeprefix('LOGSHIP_').lower().replace('_', '-')}`", ", ".join(names))
            for variable, names in sorted(by_variable.items())
        ],
    )  # fmt: skip
    yield "Variables that are no option:"
    yield ""
    rows = [(f"`{name}`", meaning) for name, meaning in sorted(settings.VARIABLES.items())]
    yield from _table("variable", "meaning", rows=rows)
    yield "libpq's own (`PGPASSWORD`, `PGPASSFILE`, `PGSERVICE`, `PGSSLMODE` …) are libpq's: they hold for both sides."
    yield ""


def _exit_codes() -> Iterator[str]:
    yield "## Exit codes"
    yield ""
    yield from _table("code", "means", rows=[(str(code), text) for code, text in _EXIT_CODES.items()])


# -- views and figures -----------------------------------------------------------------------------


def _views(conninfo: str) -> Iterator[str]:
    yield "All in the schema `logship`; [views.md](views.md) says more."
    yield ""
    with psycopg.connect(conninfo) as link:
        columns = link.execute(_VIEWS.encode()).fetchall()
    for view in dict.fromkeys(row[0] for row in columns):
        own = [row for row in columns if row[0] == view]
        yield f"### {view}"
        yield ""
        yield f"{own[0][1]}."
        yield ""
        yield from _table(
            "column", "type", "meaning", rows=[(f"`{row[2]}`", row[3], row[4] or "") for row in own]
        )


def _functions(secondary: str) -> Iterator[str]:
    with psycopg.connect(secondary) as link:
        functions = link.execute(_FUNCTIONS.encode()).fetchall()
    yield "### Functions"
    yield ""
    rows = [(f"`{name}({given})`", result, text or "") for name, given, result, text in functions]
    yield from _table("function", "returns", "meaning", rows=rows)


def _metrics() -> Iterator[str]:
    yield "## Figures"
    yield ""
    yield "At `/metrics` of `logship run --metrics HOST:PORT`; [metrics.md](metrics.md) says more."
    yield ""
    rows = [
        (
            f"`{metric.name}`",
            metric.kind.value,
            ", ".join(f"`{label}`" for label in metric.labels),
            metric.help,
        )
        for metric in metrics.ALL
    ]
    yield from _table("figure", "kind", "labels", "meaning", rows=rows)


def _table(*head: str, rows: list[tuple[str, ...]]) -> Iterator[str]:
    if not rows:
        return
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(' '.join(cell.split()) for cell in row)} |"
    yield ""


# -- errors ----------------------------------------------------------------------------------------


def error_page() -> str:
    """docs/errors.md: every sentence that the code can end with, by exit code, and the hint that goes with it."""
    found = sorted(set(sentences()))
    lines = [
        "# Errors",
        "",
        "Every error is one sentence and, below it, a hint: the next thing to do. With `--json` it is an object with",
        "`error`, `hint`, `kind` (in brackets here) and `exit_code`. `…` stands for a name or a number. Made from the",
        "code by `make docs`.",
        "What goes wrong with a replica as a whole, and what to do then, is in [operations.md](operations.md).",
        "",
    ]
    for code in sorted({code for code, *_ in found}):
        lines += [f"## Exit code {code}: {_EXIT_CODES[code]}", ""]
        lines += _table(
            "error", "what to do",
            rows=[(f"{_cell(text)} ({kind})", _cell(hint)) for each, text, kind, hint in found if each == code],
        )  # fmt: skip
    code = errors.InternalError.exit_code
    lines += [
        f"## Exit code {code}: {_EXIT_CODES[code]}",
        "",
        f"Whatever it says: {errors.InternalError.HINT}.",
        "",
    ]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def sentences() -> Iterator[tuple[int, str, str, str]]:
    kinds = _kinds()
    for path in sorted(Path(logship.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and node.name in kinds and node.name not in INTERNAL:
                yield from _of_class(node, kinds[node.name])
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in kinds:
                kind = kinds[node.func.id]
                if "__init__" not in vars(kind) and node.args and kind.__name__ not in INTERNAL:
                    yield from _one(node, kind)


def _of_class(node: ast.ClassDef, kind: type[errors.LogshipError]) -> Iterator[tuple[int, str, str, str]]:
    """The sentence that a class builds itself: what it gives to its parent."""
    for call in ast.walk(node):
        if (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and call.func.attr == "__init__"
            and call.args
        ):
            yield from _one(call, kind)


def _one(call: ast.Call, kind: type[errors.LogshipError]) -> Iterator[tuple[int, str, str, str]]:
    sentence = template(call.args[0])
    hint = next((template(keyword.value) for keyword in call.keywords if keyword.arg == "hint"), "")
    # A defect of ours has one hint for all, and is in no list.
    if sentence.strip("… ") and not issubclass(kind, errors.InternalError):
        yield kind.exit_code, sentence, kind.__name__, hint


def template(node: ast.expr) -> str:
    """The text of an expression, with `…` for what is only known when it runs."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return re.sub(r"…(\s*…)+", "…", "".join(template(value) for value in values))
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return template(left) + template(right)
        case ast.BoolOp(op=ast.Or(), values=[*_, last]):
            return template(last)
        case ast.IfExp(body=body, orelse=orelse):
            return " / ".join(text for text in (template(body), template(orelse)) if text)
    return "…"


def _kinds() -> dict[str, type[errors.LogshipError]]:
    for module in pkgutil.walk_packages(logship.__path__, "logship."):
        if "migrations" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found: dict[str, type[errors.LogshipError]] = {}

    def walk(kind: type[errors.LogshipError]) -> None:
        if kind.__module__.startswith("logship."):
            found[kind.__name__] = kind
        for below in kind.__subclasses__():
            walk(below)

    walk(errors.LogshipError)
    return found


def main() -> None:
    with Server(find_binaries(), "docs", durable=False) as server:
        with psycopg.connect(server.conninfo(), autocommit=True) as link:
            link.execute("create database app")
        primary, secondary = server.conninfo("app"), server.conninfo()
        migrate.upgrade(primary, Side.PRIMARY)
        migrate.upgrade(secondary, Side.SECONDARY)
        (DOCS / "reference.md").write_text(reference(primary, secondary), encoding="utf-8")
    (DOCS / "errors.md").write_text(error_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
