"""Carries one expression of PostgreSQL's grammar into DuckDB's SQL, with its type.

In: nodes of postgast (PostgreSQL's own parser), and the `Scope` that gives names a meaning. Out: `Typed`, or
`Elsewhere` for every node that isn't known here. Subqueries go back to who asks (`Subquery`). No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from logship.replay.query import functions
from logship.replay.query.functions import Typed
from logship.replay.query.kinds import (
    BOOL,
    FLOATS,
    INT4,
    INTEGERS,
    UNKNOWN,
    Elsewhere,
    Kind,
    Type,
    numeric,
    plain,
)
from logship.replay.query.names import Named, Scope

Node: TypeAlias = Any  # a message of postgast's protocol buffers; they have no types
Subquery: TypeAlias = Callable[[Node, Scope], tuple[str, Sequence[Named]]]

_NULL: Final = Typed("null", UNKNOWN, is_null=True)
_TYPES: Final = {
    "bool": Kind.BOOL, "int2": Kind.INT2, "int4": Kind.INT4, "int8": Kind.INT8, "float4": Kind.FLOAT4,
    "float8": Kind.FLOAT8, "text": Kind.TEXT, "date": Kind.DATE, "timestamp": Kind.TIMESTAMP,
    "timestamptz": Kind.TIMESTAMPTZ, "uuid": Kind.UUID, "numeric": Kind.NUMERIC,
}  # fmt: skip

_NUMBERS: Final = (*INTEGERS, *FLOATS, Kind.NUMERIC)


def kind_of(node: Node) -> str:
    return str(node.WhichOneof("node"))


def strings(nodes: Sequence[Node]) -> list[str]:
    return [node.string.sval for node in nodes]


def enum_name(message: Node, field: str) -> str:
    """The name of an enum's value, e.g. AEXPR_IN."""
    return str(
        message.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number[getattr(message, field)].name
    )


@dataclass(slots=True)
class Expressions:
    """``text``: the type of texts that are no column's. ``aggregates``: whether they are allowed where this is used."""

    scope: Scope
    subquery: Subquery
    text: Type
    aggregates: bool = False

    def of(self, node: Node) -> Typed:
        kind = kind_of(node)
        carry = getattr(self, f"_{kind}", None)
        if carry is None:
            raise Elsewhere(f"it uses {kind.replace('_', ' ')}")
        found: Typed = carry(getattr(node, kind))
        return found

    def condition(self, node: Node) -> Typed:
        """For WHERE, ON, HAVING, AND …"""
        found = self.of(node)
        if found.is_null:
            return Typed("cast(null as BOOLEAN)", BOOL)
        if found.type.kind is not Kind.BOOL:
            raise Elsewhere(f"it uses {found.type.shown} as a condition")
        return found

    # -- leaves ----------------------------------------------------------------------------------

    def _column_ref(self, node: Node) -> Typed:
        if any(kind_of(each) != "string" for each in node.fields):
            raise Elsewhere("it uses a whole row as a value")
        return self.scope.column(strings(node.fields))

    def _a_const(self, node: Node) -> Typed:
        if node.isnull:
            return _NULL
        match node.WhichOneof("val"):
            case "ival":
                return Typed(f"cast({node.ival.ival} as INTEGER)", INT4, constant=node.ival.ival)
            case "fval":
                return functions.number(node.fval.fval)
            case "boolval":
                return Typed("true" if node.boolval.boolval else "false", BOOL)
            case "sval":
                text = node.sval.sval
                return Typed(functions.quoted(text), UNKNOWN, literal=text)
        raise Elsewhere("it writes a bit string")

    # -- operators -------------------------------------------------------------------------------

    def _bool_expr(self, node: Node) -> Typed:
        parts = [self.condition(each).sql for each in node.args]
        match enum_name(node, "boolop"):
            case "NOT_EXPR":
                return Typed(f"(not {parts[0]})", BOOL)
            case "AND_EXPR":
                return Typed(f"({' and '.join(parts)})", BOOL)
        return Typed(f"({' or '.join(parts)})", BOOL)

    def _null_test(self, node: Node) -> Typed:
        test = "is null" if enum_name(node, "nulltesttype") == "IS_NULL" else "is not null"
        value = self.of(node.arg)
        if value.type.row:
            raise Elsewhere(
                f"it asks whether {value.type.shown} is NULL, which PostgreSQL asks of its fields"
            )
        return Typed(f"({value.sql} {test})", BOOL)

    def _boolean_test(self, node: Node) -> Typed:
        _, *words = enum_name(node, "booltesttype").lower().split("_")
        if words[-1] == "unknown":
            words[-1] = "null"
        return Typed(f"({self.condition(node.arg).sql} is {' '.join(words)})", BOOL)

    def _a_expr(self, node: Node) -> Typed:  # noqa: PLR0911  (a line per kind)
        names = strings(node.name)
        if len(names) > 1 and names[0] != "pg_catalog":
            raise Elsewhere(f"it uses the operator {'.'.join(names)}")
        kind, operator = enum_name(node, "kind"), names[-1]
        if kind in ("AEXPR_IN", "AEXPR_BETWEEN", "AEXPR_NOT_BETWEEN"):
            return self._among(node, kind, operator)
        if kind == "AEXPR_OP" and not node.HasField("lexpr"):
            return self._signed(operator, self.of(node.rexpr))
        left, right = self.of(node.lexpr), self.of(node.rexpr)
        match kind:
            case "AEXPR_OP" if operator in ("=", "<>", "<", "<=", ">", ">="):
                return functions.comparison(operator, left, right)
            case "AEXPR_OP" if operator == "||":
                return functions.concatenation(left, right)
            case "AEXPR_OP":
                return functions.arithmetic(operator, left, right)
            case "AEXPR_DISTINCT":
                return functions.comparison("is distinct from", left, right)
            case "AEXPR_NOT_DISTINCT":
                return functions.comparison("is not distinct from", left, right)
            case "AEXPR_LIKE":
                return functions.like("like" if operator == "~~" else "not like", left, right)
            case "AEXPR_NULLIF":
                return functions.null_if(left, right)
        raise Elsewhere(f"it uses {kind.removeprefix('AEXPR_').replace('_', ' ')}")

    def _signed(self, operator: str, value: Typed) -> Typed:
        if operator != "-" or value.type.kind not in _NUMBERS:
            raise Elsewhere(f"it uses {operator} before {value.type.shown}")
        constant = None if value.constant is None else -value.constant
        return replace(value, sql=f"cast((- {value.sql}) as {value.type.duckdb})", constant=constant)

    def _among(self, node: Node, kind: str, operator: str) -> Typed:
        value = self.of(node.lexpr)
        given = [self.of(each) for each in node.rexpr.list.items]
        if kind == "AEXPR_IN":
            found = functions.membership(value, given).sql
            return Typed(found if operator == "=" else f"(not {found})", BOOL)
        low, high = (
            functions.comparison(sign, value, each).sql
            for sign, each in zip((">=", "<="), given, strict=True)
        )
        found = f"({low} and {high})"
        return Typed(found if kind == "AEXPR_BETWEEN" else f"(not {found})", BOOL)

    # -- what chooses among values -------------------------------------------------------------------

    def _case_expr(self, node: Node) -> Typed:
        tests, values = [], []
        subject = self.of(node.arg) if node.HasField("arg") else None
        for each in node.args:
            when = each.case_when
            if subject is None:
                tests.append(self.condition(when.expr).sql)
            else:
                tests.append(functions.comparison("=", subject, self.of(when.expr)).sql)
            values.append(self.of(when.result))
        values.append(self.of(node.defresult) if node.HasField("defresult") else _NULL)
        values, kind = self._one_of(values)
        whens = "".join(
            f" when {test} then {value.sql}" for test, value in zip(tests, values[:-1], strict=True)
        )
        return Typed(f"case{whens} else {values[-1].sql} end", kind, computed=any(v.computed for v in values))

    def _coalesce_expr(self, node: Node) -> Typed:
        values, kind = self._one_of([self.of(each) for each in node.args])
        listed = ", ".join(value.sql for value in values)
        return Typed(f"coalesce({listed})", kind, computed=any(v.computed for v in values))

    def _min_max_expr(self, node: Node) -> Typed:
        values, kind = self._one_of([self.of(each) for each in node.args])
        functions.require_order(kind)
        name = "greatest" if enum_name(node, "op") == "IS_GREATEST" else "least"
        listed = ", ".join(value.sql for value in values)
        return Typed(f"{name}({listed})", kind, computed=any(v.computed for v in values))

    def _one_of(self, values: Sequence[Typed]) -> tuple[list[Typed], Type]:
        functions.one_scale(values)
        kinds = {value.type.kind for value in values}
        if kinds == {Kind.UNKNOWN}:  # PostgreSQL documentation, "UNION, CASE, and Related Constructs"
            return [functions.as_type(value, self.text) for value in values], self.text
        if Kind.FLOAT4 in kinds and kinds & set(INTEGERS):
            raise Elsewhere("it mixes real and integers, which PostgreSQL makes real")
        return functions.unified(values)

    # -- casts and calls -----------------------------------------------------------------------------

    def _type_cast(self, node: Node) -> Typed:
        return functions.cast(self.of(node.arg), self._named_type(node.type_name))

    def _named_type(self, node: Node) -> Type:
        names = strings(node.names)
        known = _TYPES.get(names[-1]) if len(names) == 1 or names[0] == "pg_catalog" else None
        limits = [each.a_const.ival.ival for each in node.typmods if kind_of(each) == "a_const"]
        if known is None or node.array_bounds or node.setof or (limits and known is not Kind.NUMERIC):
            raise Elsewhere(f"it casts to {names[-1]}")
        if known is not Kind.NUMERIC:
            return self.text if known is Kind.TEXT else plain(known)
        if not limits or len(limits) != len(node.typmods):
            raise Elsewhere("it casts to numeric, whose scale PostgreSQL finds from the values")
        digits, scale = limits[0], limits[1] if len(limits) > 1 else 0
        if not 0 <= scale <= digits <= 38:
            raise Elsewhere("it casts to a numeric that DuckDB doesn't have")
        return numeric(digits, scale)

    def _func_call(self, node: Node) -> Typed:
        names = strings(node.funcname)
        if len(names) > 1 and names[0] != "pg_catalog":
            raise Elsewhere(f"it calls {'.'.join(names)}")
        name = names[-1]
        if node.HasField("over") or node.agg_within_group or node.func_variadic:
            raise Elsewhere(f"it calls {name} over a window, in an order, or with an array")
        if name in functions.AGGREGATES:
            return self._aggregate(name, node)
        if node.agg_star or node.agg_distinct or node.agg_order or node.HasField("agg_filter"):
            raise Elsewhere(f"it calls {name} as an aggregate")
        return functions.function(name, [self.of(each) for each in node.args])

    def _aggregate(self, name: str, node: Node) -> Typed:
        if not self.aggregates:
            raise Elsewhere(f"it calls {name} where there is nothing to aggregate")
        if node.agg_order or (len(node.args) != 1 and not node.agg_star):
            raise Elsewhere(f"it calls {name} in an order, or of several values")
        self.aggregates = False  # none stands inside another
        if node.agg_star:
            found = Typed("count(*)", plain(Kind.INT8))
        else:
            # One of outer columns alone belongs to the outer SELECT.
            alone = Scope(sources=self.scope.sources, common=self.scope.common)
            inner = Expressions(alone, self.subquery, self.text)
            found = functions.aggregate(name, inner.of(node.args[0]), distinct=node.agg_distinct)
        if node.HasField("agg_filter"):
            found = _filtered(found, self.condition(node.agg_filter).sql)
        self.aggregates = True
        return found

    # -- subqueries ----------------------------------------------------------------------------------

    def _sub_link(self, node: Node) -> Typed:
        text, columns = self.subquery(node.subselect, self.scope)
        match enum_name(node, "sub_link_type"):
            case "EXISTS_SUBLINK":
                return Typed(f"exists ({text})", BOOL)
            case "EXPR_SUBLINK" if len(columns) == 1:
                return Typed(f"({text})", columns[0].type, computed=columns[0].computed)
            case "ANY_SUBLINK" if len(columns) == 1 and strings(node.oper_name) in ([], ["="]):
                return self._in(self.of(node.testexpr), text, columns[0])
        raise Elsewhere("it compares with a subquery in a way other than IN")

    def _in(self, value: Typed, text: str, column: Named) -> Typed:
        functions.require_equality(value.type)
        functions.require_equality(column.type)
        if value.type.kind is not column.type.kind or value.type.kind is Kind.NUMERIC:
            raise Elsewhere(f"it looks for {value.type.shown} in a subquery of {column.type.shown}")
        return Typed(f"({value.sql} in ({text}))", BOOL)


def _filtered(aggregate: Typed, condition: str) -> Typed:
    """FILTER belongs to the aggregate, which may stand inside a cast."""
    sql = aggregate.sql
    if sql.startswith("cast(") and " as " in sql:
        inner, _, rest = sql.removeprefix("cast(").rpartition(" as ")
        return replace(aggregate, sql=f"cast({inner} filter (where {condition}) as {rest}")
    return replace(aggregate, sql=f"{sql} filter (where {condition})")
