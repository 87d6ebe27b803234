"""What `logship verify` and `logship repair` say of their findings: one JSON object, or lines for people.

In: `Report`, `Repaired`. Out: standard output. Of rows only keys are shown, unless values were asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from logship.cli import output

if TYPE_CHECKING:
    from logship.service.compare.mend import Plan
    from logship.service.compare.repair import Repaired
    from logship.service.compare.verify import MemoryReport, Report
    from logship.snapshot.verify_compare import Found, TableResult
    from logship.snapshot.verify_memory import MemoryResult

_SHOWN: Final = 20  # keys of a table that people are shown; --json has all


def as_object(report: Report) -> dict[str, Any]:
    return {
        "replica": report.replica,
        "lsn": report.lsn,
        "equal": report.equal,
        "held_s": report.held_s,
        "seconds": report.seconds,
        "tables": [_table(table) for table in report.tables],
        "skipped": report.skipped,
        "resumed": report.resumed,
        "memory": None if report.memory is None else _memory(report.memory),
    }


def _memory(report: MemoryReport) -> dict[str, Any]:
    return {
        "tables": [
            {
                "schemaname": result.table.schemaname,
                "relname": result.table.relname,
                "equal": result.equal,
                "key": list(result.table.key),
                "secondary_rows": result.secondary_rows,
                "memory_rows": result.memory_rows,
                "reason": result.reason or None,
                "more": result.more,
                "found": [
                    {"kind": one.kind, "key": list(one.key), "secondary": one.secondary, "memory": one.memory}
                    for one in result.found
                ],
            }
            for result in report.tables
        ],
        "cold": report.cold,
    }


def _table(table: TableResult) -> dict[str, Any]:
    return {
        "table": table.table,
        "schemaname": table.schemaname,
        "relname": table.relname,
        "equal": table.equal,
        "key": list(table.key),
        "primary_rows": table.primary_rows,
        "secondary_rows": table.secondary_rows,
        "reason": table.reason or None,
        "more": table.more,
        "found": [_found(one) for one in table.found],
    }


def _found(found: Found) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "kind": found.kind,
        "key": list(found.key),
        "primary": found.primary,
        "secondary": found.secondary,
    }
    if found.values is not None:
        fields["values"] = {name: {"primary": p, "secondary": s} for name, (p, s) in found.values.items()}
    return fields


def show(report: Report) -> None:
    for table in report.tables:
        if table.equal:
            output.line(f"equal    {table.table}  {table.primary_rows} rows")
        elif table.reason:
            output.line(f"differs  {table.table}  {table.reason}")
        else:
            _show_differences(table)
    for name, why in report.skipped.items():
        output.line(f"skipped  {name}  {why}")
    for name, lsn in report.resumed.items():
        output.line(f"equal    {name}  at {lsn}, as noted before")
    if report.memory is not None:
        _show_memory(report.memory)
    differing = len(report.differing)
    verdict = f"{differing} of {len(report.tables)} tables differ" if differing else "equal"
    if report.memory is not None and report.memory.differing:
        verdict += f", memory differs from the secondary in {len(report.memory.differing)} tables,"
    held = "" if report.held_s is None else f"; the replica stood still for {output.duration(report.held_s)}"
    output.line(f"{verdict} at {report.lsn}, compared in {output.duration(report.seconds)}{held}")
    if differing:
        output.line("to mend the rows: logship repair --primary … --secondary … [--dry-run]")
    if report.memory is not None and report.memory.differing:
        output.line("memory is loaded anew from the secondary when the replayer begins again: restart it")


def _show_memory(report: MemoryReport) -> None:
    for result in report.tables:
        name = f'"{result.table.schemaname}"."{result.table.relname}" in memory'
        if result.equal:
            output.line(f"equal    {name}  {result.memory_rows} rows")
            continue
        output.line(f"differs  {name}  {result.reason or _counted(result)}")
        for found in result.found[:_SHOWN]:
            if result.table.key:
                output.line(f"  {found.kind:<8} {_key(result.table.key, found.key)}")
            else:
                output.line(
                    f"  row {found.key[0]}: {found.secondary} on the secondary, {found.memory} in memory"
                )
        _show_rest(len(result.found))
    for table, why in report.cold.items():
        output.line(f"skipped  {table} in memory  {why}")


def _counted(result: MemoryResult) -> str:
    more = ", and more" if result.more else ""
    return (
        f"{len(result.found)} differences{more}; {result.secondary_rows} rows on the secondary, "
        f"{result.memory_rows} in memory"
    )


def _show_rest(found: int) -> None:
    if found > _SHOWN:
        output.line(f"  … {found - _SHOWN} further ones; --json lists them")


def _show_differences(table: TableResult) -> None:
    more = ", and more" if table.more else ""
    output.line(
        f"differs  {table.table}  {len(table.found)} differences{more}; "
        f"{table.primary_rows} rows on the primary, {table.secondary_rows} on the secondary"
    )
    for found in table.found[:_SHOWN]:
        if table.key:
            output.line(f"  {found.kind:<8} {_key(table.key, found.key)}")
        else:
            output.line(
                f"  row {found.key[0]}: {found.primary} on the primary, {found.secondary} on the secondary"
            )
        for name, (ours, theirs) in (found.values or {}).items():
            output.line(f"           {_name(name)}: primary {_value(ours)}, secondary {_value(theirs)}")
    _show_rest(len(table.found))


def _key(names: tuple[str, ...], texts: tuple[str, ...]) -> str:
    return ", ".join(f"{_name(name)} = {_value(text)}" for name, text in zip(names, texts, strict=True))


def _name(name: str) -> str:
    return name.encode("unicode_escape").decode() if not name.isprintable() else name


def _value(text: str | None) -> str:
    """As one line: what can't be printed is escaped."""
    return "NULL" if text is None else repr(text)


# -- what repair says -----------------------------------------------------------------------------


def repaired_as_object(done: Repaired) -> dict[str, Any]:
    return {
        "replica": done.replica,
        "dry_run": done.dry_run,
        "lsn": done.lsn,
        "held_s": done.held_s,
        "rows": done.rows,
        "tables": [
            {
                "table": plan.table,
                "key": list(plan.key),
                "deleted": [list(key) for key in plan.deleted],
                "replaced": [list(key) for key in plan.replaced],
                "inserted": [list(key) for key in plan.inserted],
                "equal": plan.equal,
            }
            for plan in done.tables
        ],
    }


def show_repaired(done: Repaired) -> None:
    if done.lsn is None:
        output.line("nothing differs: there is nothing to mend")
        return
    for plan in done.tables:
        _show_plan(plan)
    verb = "would be mended" if done.dry_run else "mended"
    held = "" if done.held_s is None else f"; the replica stood still for {output.duration(done.held_s)}"
    output.line(f"{done.rows} rows {verb} at {done.lsn}{held}")


def _show_plan(plan: Plan) -> None:
    counts = f"{len(plan.deleted)} deleted, {len(plan.replaced)} replaced, {len(plan.inserted)} inserted"
    output.line(f"{plan.table}: {counts}, {plan.equal} equal by now")
    for verb, keys in (("delete", plan.deleted), ("replace", plan.replaced), ("insert", plan.inserted)):
        for key in keys[:_SHOWN]:
            output.line(f"  {verb:<8} {_key(plan.key, key) if plan.key else f'row {key[0]}'}")
        _show_rest(len(keys))
