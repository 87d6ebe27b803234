"""Why a change can't be replayed, with what is needed to mend it. No row values, not even keys."""

from __future__ import annotations

from logship.errors import LogshipError, ReplayError
from logship.lsn import Lsn


class RelationMissing(ReplayError):
    def __init__(self, relation: str, what: str = "does not exist") -> None:
        super().__init__(
            f"relation {relation} {what} on the secondary",
            hint=f"create table {relation} there as it is on the primary, with the same owner and rights; "
            "if it is a partition, create it as one, or publish its root only: "
            "alter publication ... set (publish_via_partition_root = true)",
        )
        self.relation = relation


class ShapeDiffers(ReplayError):
    """``primary`` and ``secondary`` are the two shapes, a line for each column."""

    def __init__(self, relation: str, reasons: list[str], primary: list[str], secondary: list[str]) -> None:
        width = max([len(line) for line in primary] + [len("primary")])
        height = max(len(primary), len(secondary))
        left = ["primary", *primary] + [""] * (height - len(primary))
        right = ["secondary", *secondary] + [""] * (height - len(secondary))
        table = "\n".join(f"  {a:<{width}}  {b}".rstrip() for a, b in zip(left, right, strict=True))
        super().__init__(
            f"{relation} differs on the secondary: {'; '.join(reasons)}\n{table}",
            hint=f"alter table {relation} on the secondary until the columns agree, then start again",
        )
        self.relation = relation
        self.reasons = reasons


class RowMissing(ReplayError):
    def __init__(self, relation: str, verb: str, *, named: int, hit: int, after: Lsn, upto: Lsn) -> None:
        super().__init__(
            f"{verb} of {named} row(s) in {relation} hit {hit} on the secondary "
            f"(changes after {after}, up to {upto})",
            hint="somebody else has written to the secondary, or a trigger or rule of its own interfered: "
            "compare the table with the primary's and mend it, then start again",
        )
        self.relation = relation
        self.named = named
        self.hit = hit


class ConstraintViolated(ReplayError):
    def __init__(self, relation: str, constraint: str, sqlstate: str, *, after: Lsn, upto: Lsn) -> None:
        super().__init__(
            f"constraint {constraint} of {relation} is violated on the secondary, set-wise and change by "
            f"change (SQLSTATE {sqlstate}; changes after {after}, up to {upto})",
            hint="somebody else has written to the secondary, or it has a constraint that the primary "
            "doesn't have: remove the row or the constraint, then start again",
        )
        self.relation = relation
        self.constraint = constraint


class StatementFailed(ReplayError):
    def __init__(
        self, what: str, reason: str, sqlstate: str | None, *, after: Lsn, upto: Lsn, skip: str = ""
    ) -> None:
        """``skip``: the arguments that name it to `logship ddl skip`, for a schema change."""
        by_hand = f"; or do it there by hand and pass it over: logship ddl skip {skip}" if skip else ""
        rights = (
            "it ran with the owner's rights, and the owner lacks one there: `logship check` may name the grant; "
            if sqlstate == "42501"
            else ""
        )
        super().__init__(
            f"{what} failed on the secondary: {reason} "
            f"(SQLSTATE {sqlstate}; changes after {after}, up to {upto})",
            hint=f"{rights}the secondary's server log has the whole message; mend the cause, then start again{by_hand}",
        )
        self.sqlstate = sqlstate


class WriterMissing(ReplayError):
    def __init__(self, owner: str, owner_oid: int, relation: str) -> None:
        quoted = owner.replace('"', '""')
        super().__init__(
            f'the secondary has no function that writes as "{owner}", who owns {relation}',
            hint="run `logship init` again as a superuser of the secondary or a member of "
            f'"{quoted}": it makes logship_writers.write_as_{owner_oid} for this owner',
        )
        self.owner = owner


class OwnerMissing(ReplayError):
    def __init__(self, owner: str, what: str) -> None:
        quoted = owner.replace('"', '""')
        super().__init__(
            f'{what} belongs to "{owner}", and the secondary has no function that runs schema changes as that role',
            hint="run `logship init` again as a superuser of the secondary or a member of "
            f'"{quoted}"; if the role is not there: create role "{quoted}" first, or pass --roles create-nologin, or, '
            "where it has another name, --map-role",
        )
        self.owner = owner


class OwnerDiffers(ReplayError):
    """Whoever owns it on the primary may not change it here."""

    def __init__(self, what: str, identity: str, primary: str, secondary: str) -> None:
        super().__init__(
            f'the schema change {what} is not permitted here: {identity} belongs to "{primary}" on the primary, and to '
            f'"{secondary}" on the secondary',
            hint="REASSIGN OWNED is not carried, since PostgreSQL tells nobody of it: repeat it on the secondary "
            "(or ALTER … OWNER TO), then start again",
        )


class NotCarried(ReplayError):
    """A schema change that can't be repeated with certainty."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(
            f"the schema change {what} can't be carried: {reason}",
            hint="do it on the secondary by hand, as it was done on the primary; then pass it over: "
            "logship ddl skip",
        )
        self.what = what


class RowsNotCarried(ReplayError):
    """``table`` was rewritten: what its rows hold was computed on the primary, and isn't in the log."""

    def __init__(self, what: str, table: str, reason: str) -> None:
        super().__init__(
            f"the schema change {what} rewrote {table} on the primary with values that may come out otherwise "
            f"here, and its rows are not in the log: {reason}",
            hint="pass it over, do it here by hand, and copy the table anew: logship ddl skip; then "
            f"logship resync {table}. Next time add the column without default, or fill it by UPDATE; or let "
            "rows follow: update logship.ddl_setting set rewrite_echo_bytes = … on the primary",
        )
        self.table = table


class CaptureLost(ReplayError):
    def __init__(self, what: str, reason: str) -> None:
        super().__init__(
            f"the schema change {what} was not captured on the primary: {reason}",
            hint="do it on the secondary by hand, as it was done on the primary; then pass it over: "
            "logship ddl skip",
        )
        self.what = what


class FactsDiffer(ReplayError):
    """``differences``: a line for each, with what the primary has and what came out here."""

    def __init__(self, what: str, differences: list[str]) -> None:
        lines = "\n".join(f"  {line}" for line in differences)
        super().__init__(
            f"after the schema change {what} the secondary's catalog differs from the primary's:\n{lines}",
            hint="nothing of this transaction is committed here. Mend what differs, or do the whole change by "
            "hand and pass it over: logship ddl skip",
        )
        self.differences = differences


class TransactionLost(LogshipError):
    """What was being replayed is rolled back: read the log again from the position. Not fatal."""

    def __init__(
        self, position: Lsn, why: str = "a transaction that was being replayed in pieces was rolled back"
    ) -> None:
        super().__init__(f"{why}, at {position}", hint="it is replayed again from the journal")
        self.position = position


class ReplayStopped(LogshipError):
    """`Persistence` was told to stop while it waited; nothing of what it was given is committed."""

    exit_code = 0

    def __init__(self) -> None:
        super().__init__("replay was told to stop")
