"""Carries one SELECT from PostgreSQL's SQL into DuckDB's, where both are known to give the same answer.

In: the query's text, and what relations its names stand for. Out: `Carried`: DuckDB's SQL with every name
qualified, the types of its columns, the tables it reads; or `Elsewhere` with the reason why PostgreSQL has to
answer. The text is parsed by PostgreSQL's own grammar and written anew from its tree: nothing of it reaches
DuckDB but names, numbers and quoted literals that this package wrote. No I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import postgast
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from postgast.errors import PgQueryError

from logship.errors import UsageError
from logship.replay.memory.table import DATABASE, quoted
from logship.replay.query import functions
from logship.replay.query.expressions import Expressions, Node, enum_name, kind_of, strings
from logship.replay.query.functions import Typed
from logship.replay.query.kinds import Elsewhere, Kind, Type
from logship.replay.query.names import Named, Scope
from logship.replay.query.relations import LookUp, Relation

_JOINS = {
    "JOIN_INNER": "inner join", "JOIN_LEFT": "left join", "JOIN_RIGHT": "right join", "JOIN_FULL": "full join",
}  # fmt: skip
_UNWRITTEN = frozenset({"=", "<>", "<", "<=", ">", ">="})  # what IN, BETWEEN, CASE and NULLIF find by name
_MOST_CHARACTERS = 1 << 20
_MOST_NESTING = 4_000  # a thread's stack bears three times as many
_FLAT = frozenset(
    {258, 260, 261, 266, 44}
)  # names, numbers, texts and commas, as PostgreSQL's scanner numbers them


class NotOneSelect(UsageError):
    def __init__(self, what: str) -> None:
        super().__init__(
            f"the query isn't one SELECT: {what}",
            hint="a replica is read only; ask one SELECT (or WITH … SELECT) at a time, and write on the primary",
        )


@dataclass(frozen=True, slots=True)
class Carried:
    """``types``: of the result's columns. ``floats``: those that must be finite numbers to be believed."""

    sql: str
    types: tuple[Type, ...]
    floats: tuple[int, ...]
    tables: tuple[tuple[str, str], ...]


def parsed(text: str) -> Node:
    """The one SELECT that ``text`` is; `NotOneSelect`. `Elsewhere` where it can't be told: it is nested too deeply."""
    if len(text) > _MOST_CHARACTERS:
        raise NotOneSelect(f"it is longer than {_MOST_CHARACTERS} characters")
    try:
        _require_flat(text)
        statements = postgast.parse(text).stmts
    except DecodeError:
        raise Elsewhere("it is nested too deeply") from None
    except PgQueryError as error:
        raise NotOneSelect(str(error)) from None
    except (ValueError, RecursionError):
        raise NotOneSelect("PostgreSQL's grammar doesn't take it") from None
    if len(statements) != 1:
        raise NotOneSelect(f"it is {len(statements)} statements")
    node = statements[0].stmt
    if kind_of(node) != "select_stmt":
        raise NotOneSelect(f"it is {kind_of(node).removesuffix('_stmt').replace('_', ' ').upper()}")
    select = node.select_stmt
    if select.HasField("into_clause"):
        raise NotOneSelect("it is SELECT INTO")
    return select


def _require_flat(text: str) -> None:
    """The parser's way out goes down the tree without looking where its stack ends, and takes the process with it.
    No tree is deeper than there are tokens that can nest."""
    nesting = sum(token.token not in _FLAT for token in postgast.scan(text).tokens)
    if nesting > _MOST_NESTING:
        raise Elsewhere(f"it has more than {_MOST_NESTING} operators and words")


def statement(text: str) -> str:
    """The SELECT alone, without what ends it and what stands around it. ``text`` is one statement."""
    return str(postgast.split(text)[0])


def names_in(select: Node) -> list[tuple[str | None, str]]:
    """Every schema (None: not written) and relation that the query names, those of WITH among them."""
    found = {
        (node.schemaname or None, node.relname): None
        for _, node in postgast.walk(select)
        if node.DESCRIPTOR.name == "RangeVar"
    }
    return list(found)


def functions_in(select: Node) -> set[str]:
    """Every function that the query calls without naming its schema."""
    return {
        node.funcname[0].string.sval
        for _, node in postgast.walk(select)
        if node.DESCRIPTOR.name == "FuncCall" and len(node.funcname) == 1
    }


def operators_in(select: Node) -> set[str]:
    """Every operator that the query may call without naming its schema."""
    named = {
        node.name[0].string.sval
        for _, node in postgast.walk(select)
        if node.DESCRIPTOR.name == "A_Expr" and len(node.name) == 1
    }
    return named | _UNWRITTEN


def carry(text: str, look_up: LookUp, *, ordered: bool) -> Carried:
    """``ordered``: texts that are no column's come in the order of their bytes, too. `NotOneSelect`, or `Elsewhere`
    with the reason."""
    try:
        return _Carrier(look_up, Type(Kind.TEXT, 25, ordered=ordered)).whole(parsed(text))
    except RecursionError:
        raise Elsewhere("it is nested too deeply") from None


@dataclass(slots=True)
class _Carrier:
    look_up: LookUp
    text: Type
    tables: dict[tuple[str, str], Relation] = field(default_factory=dict)
    aliases: int = 0

    def whole(self, select: Node) -> Carried:
        text, columns = self.select(select, Scope())
        return Carried(
            text,
            tuple(column.type for column in columns),
            tuple(nth for nth, column in enumerate(columns) if column.computed),
            tuple(self.tables),
        )

    def select(self, node: Node, parent: Scope) -> tuple[str, Sequence[Named]]:
        """The text, and its columns by the names that the query gives them; in DuckDB they are c0, c1, …"""
        outer = Scope(parent, common=self._with(node, parent))
        if enum_name(node, "op") != "SETOP_NONE":
            return self._combined(node, outer)
        for clause in ("distinct_clause", "window_clause", "values_lists", "locking_clause"):
            if len(getattr(node, clause)) and not _is_plain_distinct(node, clause):
                raise Elsewhere(f"it uses {clause.removesuffix('_clause').replace('_', ' ').upper()}")
        scope = Scope(outer)
        source = self._from(node.from_clause, scope)
        where = (
            f" where {self._expressions(scope).condition(node.where_clause).sql}"
            if node.HasField("where_clause")
            else ""
        )
        outputs = self._outputs(node.target_list, scope)
        groups = self._groups(node, outputs, scope)
        having = self._having(node, scope)
        if node.distinct_clause:
            for _, typed in outputs:
                functions.require_equality(typed.type)
        listed = ", ".join(f"{typed.sql} as c{nth}" for nth, (_, typed) in enumerate(outputs))
        distinct = "distinct " if node.distinct_clause else ""
        order = self._order(node, outputs, scope)
        text = f"select {distinct}{listed}{source}{where}{groups}{having}{order}{self._limit(node)}"
        return text, _result(outputs)

    def _expressions(self, scope: Scope, *, aggregates: bool = False) -> Expressions:
        return Expressions(scope, self._subquery, self.text, aggregates)

    def _subquery(self, node: Node, scope: Scope) -> tuple[str, Sequence[Named]]:
        return self.select(node.select_stmt, scope)

    def _with(self, node: Node, parent: Scope) -> dict[str, tuple[str, Sequence[Named]]]:
        found: dict[str, tuple[str, Sequence[Named]]] = {}
        if not node.HasField("with_clause"):
            return found
        if node.with_clause.recursive:
            raise Elsewhere("it uses WITH RECURSIVE")
        for each in node.with_clause.ctes:
            cte = each.common_table_expr
            if kind_of(cte.ctequery) != "select_stmt" or cte.aliascolnames:
                raise Elsewhere("it uses WITH for more than a SELECT")
            found[cte.ctename] = self.select(cte.ctequery.select_stmt, Scope(parent, common=dict(found)))
        return found

    # -- FROM ------------------------------------------------------------------------------------

    def _from(self, nodes: Sequence[Node], scope: Scope) -> str:
        parts = [self._source(node, scope) for node in nodes]
        return f" from {' cross join '.join(parts)}" if parts else ""

    def _source(self, node: Node, scope: Scope) -> str:
        match kind_of(node):
            case "range_var":
                return self._relation(node.range_var, scope)
            case "join_expr":
                return self._join(node.join_expr, scope)
            case "range_subselect" if not node.range_subselect.lateral:
                text, columns = self._subquery(node.range_subselect.subquery, scope.parent or Scope())
                return self._derived(text, columns, node.range_subselect.alias, scope)
        raise Elsewhere(f"it reads from {kind_of(node).removeprefix('range_').replace('_', ' ')}")

    def _derived(self, text: str, columns: Sequence[Named], alias: Node, scope: Scope) -> str:
        if alias.colnames:
            raise Elsewhere("it gives columns other names in FROM")
        ours = self._alias()
        scope.add(
            alias.aliasname or ours,
            [
                Named(column.name, f"{ours}.c{nth}", column.type, column.computed)
                for nth, column in enumerate(columns)
            ],
        )
        return f"({text}) as {ours}"

    def _relation(self, node: Node, scope: Scope) -> str:
        if node.catalogname or not node.inh or node.alias.colnames:
            raise Elsewhere("it uses ONLY, names a database, or gives columns other names")
        known_with = None if node.schemaname else scope.with_query(node.relname)
        if known_with is not None:
            text, columns = known_with
            return self._derived(text, columns, _aliased(node), scope)
        relation = self.look_up(node.schemaname or None, node.relname)
        if relation is None:
            raise Elsewhere(f"{_written(node)} is no table that is kept in memory")
        if relation.why_not:
            raise Elsewhere(f"{relation.schema}.{relation.name} {relation.why_not}")
        self.tables[(relation.schema, relation.name)] = relation
        ours = self._alias()
        scope.add(
            node.alias.aliasname or node.relname,
            [
                Named(column.name, f"{ours}.{quoted(column.name)}", column.type, why_not=column.why_not)
                for column in relation.columns
            ],
        )
        return f"{DATABASE}.{quoted(relation.schema)}.{quoted(relation.name)} as {ours}"

    def _join(self, node: Node, scope: Scope) -> str:
        kind = enum_name(node, "jointype")
        if kind not in _JOINS or node.is_natural or node.using_clause or node.HasField("alias"):
            raise Elsewhere("it uses NATURAL, USING, or a name for a join")
        left, right = self._source(node.larg, scope), self._source(node.rarg, scope)
        if not node.HasField("quals"):
            return f"({left} cross join {right})"
        condition = self._expressions(scope).condition(node.quals).sql
        return f"({left} {_JOINS[kind]} {right} on {condition})"

    def _alias(self) -> str:
        self.aliases += 1
        return f"r{self.aliases}"

    # -- SELECT, GROUP BY, HAVING, ORDER BY, LIMIT -----------------------------------------------------

    def _outputs(self, nodes: Sequence[Node], scope: Scope) -> list[tuple[str, Typed]]:
        outputs: list[tuple[str, Typed]] = []
        for each in nodes:
            target = each.res_target
            star = _star(target.val)
            if star is not None:
                outputs += [(column.name, column.typed()) for column in scope.star(star or None)]
                continue
            typed = self._expressions(scope, aggregates=True).of(target.val)
            if typed.type.kind is Kind.UNKNOWN:
                typed = functions.as_type(typed, self.text)
            outputs.append((target.name or _name(target.val), typed))
        if not outputs:
            raise Elsewhere("it selects no columns")
        return outputs

    def _groups(self, node: Node, outputs: Sequence[tuple[str, Typed]], scope: Scope) -> str:
        if node.group_distinct:
            raise Elsewhere("it uses GROUP BY DISTINCT")
        found = [self._key(each, outputs, scope, inputs_first=True) for each in node.group_clause]
        for typed in found:
            functions.require_equality(typed.type)
        return f" group by {', '.join(typed.sql for typed in found)}" if found else ""

    def _having(self, node: Node, scope: Scope) -> str:
        if not node.HasField("having_clause"):
            return ""
        condition = self._expressions(scope, aggregates=True).condition(node.having_clause)
        return f" having {condition.sql}"

    def _key(
        self, node: Node, outputs: Sequence[tuple[str, Typed]], scope: Scope, *, inputs_first: bool
    ) -> Typed:
        """A key of GROUP BY or ORDER BY: a column's number, its name in the result, or an expression."""
        if kind_of(node) == "a_const":
            number = node.a_const.ival.ival if node.a_const.WhichOneof("val") == "ival" else 0
            if not 1 <= number <= len(outputs):
                raise Elsewhere("it orders or groups by a constant")
            return outputs[number - 1][1]
        if kind_of(node) == "column_ref" and len(node.column_ref.fields) == 1:
            [name] = strings(node.column_ref.fields)
            named = [typed for output, typed in outputs if output == name]
            if named and not (inputs_first and self._is_column(name, scope)):
                if len({typed.sql for typed in named}) > 1:
                    raise Elsewhere(f'"{name}" can mean several columns')
                return named[0]
        return self._expressions(scope, aggregates=not inputs_first).of(node)

    def _is_column(self, name: str, scope: Scope) -> bool:
        return any(column.name == name for source in scope.sources.values() for column in source)

    def _order(self, node: Node, outputs: Sequence[tuple[str, Typed]], scope: Scope) -> str:
        keys = []
        for each in node.sort_clause:
            by = each.sort_by
            direction, nulls = enum_name(by, "sortby_dir"), enum_name(by, "sortby_nulls")
            if direction == "SORTBY_USING":
                raise Elsewhere("it uses ORDER BY … USING")
            typed = self._key(by.node, outputs, scope, inputs_first=False)
            functions.require_order(typed.type)
            down = direction == "SORTBY_DESC"
            first = nulls == "SORTBY_NULLS_FIRST" or (nulls == "SORTBY_NULLS_DEFAULT" and down)
            place = _place(typed, outputs)
            keys.append(f"{place} {'desc' if down else 'asc'} nulls {'first' if first else 'last'}")
        return f" order by {', '.join(keys)}" if keys else ""

    def _limit(self, node: Node) -> str:
        if enum_name(node, "limit_option") == "LIMIT_OPTION_WITH_TIES":
            raise Elsewhere("it uses WITH TIES")
        found = ""
        for word, name in (("limit", "limit_count"), ("offset", "limit_offset")):
            if not node.HasField(name):
                continue
            constant = getattr(node, name)
            if kind_of(constant) == "a_const" and constant.a_const.isnull:
                continue  # LIMIT ALL
            if kind_of(constant) != "a_const" or constant.a_const.WhichOneof("val") != "ival":
                raise Elsewhere(f"its {word.upper()} isn't a plain number")
            found += f" {word} {constant.a_const.ival.ival}"
        return found

    # -- UNION, INTERSECT, EXCEPT ----------------------------------------------------------------------

    def _combined(self, node: Node, scope: Scope) -> tuple[str, Sequence[Named]]:
        word = enum_name(node, "op").removeprefix("SETOP_").lower() + (" all" if node.all else "")
        left_text, left = self.select(node.larg, scope)
        right_text, right = self.select(node.rarg, scope)
        if [column.type for column in left] != [column.type for column in right]:
            raise Elsewhere(f"it uses {word.upper()} of columns with different types")
        if word != "union all":
            for column in left:
                functions.require_equality(column.type)
        ours = self._alias()
        columns = [
            Named(one.name, f"{ours}.c{nth}", one.type, one.computed or other.computed)
            for nth, (one, other) in enumerate(zip(left, right, strict=True))
        ]
        outputs = [(column.name, column.typed()) for column in columns]
        inner = Scope(scope)
        inner.add(ours, columns)
        listed = ", ".join(f"{ours}.c{nth} as c{nth}" for nth in range(len(columns)))
        order = self._order(node, outputs, inner)
        text = (
            f"select {listed} from (({left_text}) {word} ({right_text})) as {ours}{order}{self._limit(node)}"
        )
        return text, _result(outputs)


def _result(outputs: Sequence[tuple[str, Typed]]) -> list[Named]:
    return [Named(name, f"c{nth}", typed.type, typed.computed) for nth, (name, typed) in enumerate(outputs)]


def _place(typed: Typed, outputs: Sequence[tuple[str, Typed]]) -> str:
    """A key that is shown is named by its column: DISTINCT and UNION allow no other."""
    return next((f"c{nth}" for nth, (_, shown) in enumerate(outputs) if shown is typed), typed.sql)


def _is_plain_distinct(node: Node, clause: str) -> bool:
    """SELECT DISTINCT has one empty item there; DISTINCT ON its expressions."""
    items = getattr(node, clause)
    return clause == "distinct_clause" and len(items) == 1 and items[0].WhichOneof("node") is None


def _star(node: Node) -> str | None:
    """Of ``t.*`` the t, of ``*`` an empty text; None when it is neither."""
    if kind_of(node) != "column_ref" or kind_of(node.column_ref.fields[-1]) != "a_star":
        return None
    names = strings(node.column_ref.fields[:-1])
    if len(names) > 1:
        raise Elsewhere("it names a table with its schema before a star")
    return names[0] if names else ""


def _name(node: Node) -> str:
    """How PostgreSQL calls a column that the query doesn't name, as far as one would name it again.
    Source: PostgreSQL src/backend/parser/parse_target.c, FigureColnameInternal."""
    match kind_of(node):
        case "column_ref":
            return strings(node.column_ref.fields)[-1]
        case "func_call":
            return strings(node.func_call.funcname)[-1]
        case "coalesce_expr":
            return "coalesce"
        case "case_expr":
            return "case"
        case "type_cast":
            inner = _name(node.type_cast.arg)
            return inner if inner != "?column?" else strings(node.type_cast.type_name.names)[-1]
    return "?column?"


def _aliased(node: Node) -> Node:
    """A WITH query that is read without another name has its own."""
    if not node.alias.aliasname:
        node.alias.aliasname = node.relname
    return node.alias


def _written(node: Node) -> str:
    return f"{node.schemaname}.{node.relname}" if node.schemaname else str(node.relname)
