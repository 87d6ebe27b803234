"""Statements as PostgreSQL's own grammar reads them: split, with the tag and the names that each is about.

In: SQL text. Out: `Piece`s. Assumes UTF-8. Cuts the source text by location and never writes SQL from a
tree: libpg_query's deparser loses CONCURRENTLY. The tags are those of PostgreSQL's CreateCommandTag
(src/backend/tcop/utility.c).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import postgast
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from postgast.errors import PgQueryError

_WORDS: Final[dict[str, str]] = {
    "MATVIEW": "MATERIALIZED VIEW", "FOREIGN_TABLE": "FOREIGN TABLE", "OPCLASS": "OPERATOR CLASS",
    "OPFAMILY": "OPERATOR FAMILY", "TSCONFIGURATION": "TEXT SEARCH CONFIGURATION",
    "TSDICTIONARY": "TEXT SEARCH DICTIONARY", "TSPARSER": "TEXT SEARCH PARSER",
    "TSTEMPLATE": "TEXT SEARCH TEMPLATE", "STATISTIC_EXT": "STATISTICS", "FDW": "FOREIGN DATA WRAPPER",
    "FOREIGN_SERVER": "SERVER", "ATTRIBUTE": "TYPE", "DOMCONSTRAINT": "DOMAIN", "TABCONSTRAINT": "TABLE",
    "ACCESS_METHOD": "ACCESS METHOD", "EVENT_TRIGGER": "EVENT TRIGGER", "LARGEOBJECT": "LARGE OBJECT",
}  # fmt: skip
_TAGS: Final[dict[str, str]] = {
    "create_stmt": "CREATE TABLE", "create_foreign_table_stmt": "CREATE FOREIGN TABLE", "view_stmt": "CREATE VIEW",
    "index_stmt": "CREATE INDEX", "create_seq_stmt": "CREATE SEQUENCE", "alter_seq_stmt": "ALTER SEQUENCE",
    "create_schema_stmt": "CREATE SCHEMA", "create_enum_stmt": "CREATE TYPE", "create_range_stmt": "CREATE TYPE",
    "composite_type_stmt": "CREATE TYPE", "create_domain_stmt": "CREATE DOMAIN", "create_trig_stmt": "CREATE TRIGGER",
    "rule_stmt": "CREATE RULE", "create_policy_stmt": "CREATE POLICY", "alter_policy_stmt": "ALTER POLICY",
    "create_cast_stmt": "CREATE CAST", "create_conversion_stmt": "CREATE CONVERSION",
    "create_op_class_stmt": "CREATE OPERATOR CLASS", "create_op_family_stmt": "CREATE OPERATOR FAMILY",
    "alter_op_family_stmt": "ALTER OPERATOR FAMILY", "alter_operator_stmt": "ALTER OPERATOR",
    "create_extension_stmt": "CREATE EXTENSION", "alter_extension_stmt": "ALTER EXTENSION",
    "alter_extension_contents_stmt": "ALTER EXTENSION", "create_fdw_stmt": "CREATE FOREIGN DATA WRAPPER",
    "alter_fdw_stmt": "ALTER FOREIGN DATA WRAPPER", "create_foreign_server_stmt": "CREATE SERVER",
    "alter_foreign_server_stmt": "ALTER SERVER", "create_user_mapping_stmt": "CREATE USER MAPPING",
    "alter_user_mapping_stmt": "ALTER USER MAPPING", "drop_user_mapping_stmt": "DROP USER MAPPING",
    "create_plang_stmt": "CREATE LANGUAGE", "create_transform_stmt": "CREATE TRANSFORM",
    "create_am_stmt": "CREATE ACCESS METHOD", "create_stats_stmt": "CREATE STATISTICS",
    "alter_stats_stmt": "ALTER STATISTICS", "comment_stmt": "COMMENT", "sec_label_stmt": "SECURITY LABEL",
    "alter_default_privileges_stmt": "ALTER DEFAULT PRIVILEGES", "alter_enum_stmt": "ALTER TYPE",
    "alter_type_stmt": "ALTER TYPE", "alter_domain_stmt": "ALTER DOMAIN", "alter_collation_stmt": "ALTER COLLATION",
    "alter_tsconfiguration_stmt": "ALTER TEXT SEARCH CONFIGURATION",
    "alter_tsdictionary_stmt": "ALTER TEXT SEARCH DICTIONARY", "refresh_mat_view_stmt": "REFRESH MATERIALIZED VIEW",
    "drop_owned_stmt": "DROP OWNED", "import_foreign_schema_stmt": "IMPORT FOREIGN SCHEMA",
}  # fmt: skip
# ALTER … of many kinds: the field that says which.
_ALTER_KIND: Final = {
    "alter_table_stmt": "objtype", "alter_object_schema_stmt": "object_type", "alter_owner_stmt": "object_type",
    "alter_object_depends_stmt": "object_type", "alter_function_stmt": "objtype",
    "alter_table_move_all_stmt": "objtype",
}  # fmt: skip
# Where a statement's target stands: a relation, or a list of name parts, or one name.
_RELATIONS: Final = ("relation", "view", "typevar", "sequence", "table")
_LISTS: Final = (
    "defnames", "funcname", "domainname", "type_name", "conversion_name", "opclassname", "opfamilyname",
    "dictname", "cfgname", "collname", "object", "func", "opername",
)  # fmt: skip
_NAMES: Final = (
    "trigname", "rulename", "policy_name", "extname", "schemaname", "servername", "fdwname", "plname",
)  # fmt: skip

# What the catalog names by its table and its own name, the new one when it was renamed. TABLE: a constraint of it.
_NAMED_BY_TABLE: Final = frozenset({"COLUMN", "TABLE", "TRIGGER", "RULE", "POLICY"})


@dataclass(frozen=True, slots=True)
class Piece:
    """One statement. ``targets``: names as written, schema first where it was given; none: not known.

    ``arguments``: of a function, how its argument types are named, of a cast its two types; None: not given.
    """

    text: str
    tag: str  # empty: no schema change
    targets: tuple[tuple[str, ...], ...] = ()
    arguments: tuple[str, ...] | None = None
    of_column: bool = False  # the target's last part is a column's name
    label: str = ""  # what an enum has after it


@lru_cache(maxsize=64)
def split(sql: str) -> tuple[Piece, ...] | None:
    """The statements of ``sql`` in order; None when PostgreSQL's grammar doesn't take it, or it is nested so deeply
    (a sum of a hundred terms) that its tree can't be read."""
    try:
        tree = postgast.parse(sql)
    except (PgQueryError, ValueError, RecursionError, DecodeError):
        return None
    source = sql.encode()  # locations are bytes
    pieces = []
    for statement in tree.stmts:
        end = statement.stmt_location + statement.stmt_len if statement.stmt_len else len(source)
        text = source[statement.stmt_location : end].decode(errors="replace").strip()
        name = statement.stmt.WhichOneof("node")
        node = getattr(statement.stmt, name)
        pieces.append(
            Piece(
                text,
                _tag(name, node),
                tuple(_targets(name, node)),
                _arguments(name, node),
                _of_column(name, node),
                node.new_val if name == "alter_enum_stmt" else "",
            )
        )
    return tuple(pieces)


def _tag(name: str, node: Any) -> str:  # noqa: PLR0911  (a line per kind)
    match name:
        case "select_stmt":
            return "SELECT INTO" if node.HasField("into_clause") else ""
        case "create_table_as_stmt":
            if _kind(node, "objtype") == "MATERIALIZED VIEW":
                return "CREATE MATERIALIZED VIEW"
            return "SELECT INTO" if node.is_select_into else "CREATE TABLE AS"
        case "define_stmt":
            return "CREATE " + _kind(node, "kind")
        case "create_function_stmt":
            return "CREATE PROCEDURE" if node.is_procedure else "CREATE FUNCTION"
        case "grant_stmt":
            return "GRANT" if node.is_grant else "REVOKE"
        case "drop_stmt":
            return "DROP " + _kind(node, "remove_type")
        case "rename_stmt":
            kind = _kind(node, "rename_type")
            return "ALTER " + (_kind(node, "relation_type") if kind == "COLUMN" else kind)
    if name in _ALTER_KIND:
        return "ALTER " + _kind(node, _ALTER_KIND[name])
    return _TAGS.get(name, "")


def _kind(node: Any, field: str) -> str:
    descriptor = node.DESCRIPTOR.fields_by_name[field].enum_type
    word = str(descriptor.values_by_number[getattr(node, field)].name).removeprefix("OBJECT_")
    return _WORDS.get(word, word)


def _targets(name: str, node: Any) -> Iterator[tuple[str, ...]]:  # noqa: PLR0911, PLR0912  (a line per kind)
    if name in {"drop_stmt", "grant_stmt"}:
        for each in node.objects:
            yield from _name(each)
        return
    if name == "index_stmt":
        # Without a name of its own, its table's is not what the catalog calls it.
        if node.idxname:
            yield (*((node.relation.schemaname,) if node.relation.schemaname else ()), node.idxname)
        return
    if name in {"create_stats_stmt", "import_foreign_schema_stmt", "drop_owned_stmt"}:
        return
    if name == "create_cast_stmt":
        yield tuple(_strings(node.sourcetype))
        return
    if name == "rename_stmt" and not node.subname:
        yield (node.newname,)  # the catalog has the new name only
        return
    if name == "rename_stmt" and _kind(node, "rename_type") in _NAMED_BY_TABLE:
        yield (*_relation(node.relation), node.newname)
        return
    fields = {field.name for field, _ in node.ListFields()}
    if name == "alter_object_schema_stmt":
        old = [_relation(node.relation)] if "relation" in fields else list(_name(node.object))
        # An extension isn't in its schema.
        schema = () if _kind(node, "object_type") == "EXTENSION" else (node.newschema,)
        yield from ((*schema, each[-1]) for each in old)
        return
    into = {"create_table_as_stmt": "into", "select_stmt": "into_clause"}.get(name)
    if into is not None:
        yield _relation(getattr(node, into).rel)
        return
    if "base_stmt" in fields:
        node = node.base_stmt
        fields = {field.name for field, _ in node.ListFields()}
    for field in _NAMES:
        # ALTER … DEPENDS ON EXTENSION names one, and is about something else.
        if field in fields and name != "alter_object_depends_stmt":
            yield (getattr(node, field),)
            return
    for field in _RELATIONS:
        if field in fields:
            yield _relation(getattr(node, field))
            return
    for field in _LISTS:
        if field in fields:
            yield from _name(getattr(node, field))
            return
    if name == "create_am_stmt":
        yield (node.amname,)


def _of_column(name: str, node: Any) -> bool:
    return name in {"comment_stmt", "sec_label_stmt"} and _kind(node, "objtype") == "COLUMN"


def _relation(node: Any) -> tuple[str, ...]:
    return (node.schemaname, node.relname) if node.schemaname else (node.relname,)


def _name(node: Any) -> Iterator[tuple[str, ...]]:
    """The name that a node of whatever kind holds."""
    if not hasattr(node, "DESCRIPTOR"):  # a repeated field
        parts = [part for each in node for part in _strings(each)]
        if parts:
            yield tuple(parts)
        return
    parts = list(_strings(node))
    if parts:
        yield tuple(parts)


def _strings(node: Any) -> Iterator[str]:
    if node.DESCRIPTOR.name == "Node":
        inner = node.WhichOneof("node")
        if inner is None:
            return
        node = getattr(node, inner)
    match node.DESCRIPTOR.name:
        case "String":
            yield node.sval
        case "RangeVar":
            yield from _relation(node)
        case "List":
            for each in node.items:
                yield from _strings(each)
        case "ObjectWithArgs":
            for each in node.objname:
                yield from _strings(each)
        case "TypeName":
            parts = [part for each in node.names for part in _strings(each)]
            yield from (
                [_SQL_NAMES[parts[1]]]
                if parts[0] == _BUILT_IN and parts[1:] and parts[1] in _SQL_NAMES
                else parts
            )


def _arguments(name: str, node: Any) -> tuple[str, ...] | None:
    """The last part of each input argument's type."""
    if name == "create_function_stmt":
        modes = [each.function_parameter for each in node.parameters]
        given = [mode.arg_type for mode in modes if _mode(mode) not in {"FUNC_PARAM_OUT", "FUNC_PARAM_TABLE"}]
        return tuple(_type(each) for each in given)
    if name == "create_cast_stmt":
        return (_type(node.sourcetype), _type(node.targettype))
    if name == "alter_function_stmt":
        return _of_object(node.func)
    if name == "drop_stmt" and len(node.objects) == 1:
        node = node.objects[0]
    elif "object" in {field.name for field, _ in node.ListFields()}:
        node = node.object
    else:
        return None
    if node.DESCRIPTOR.name != "Node" or node.WhichOneof("node") != "object_with_args":
        return None
    return _of_object(node.object_with_args)


def _of_object(node: Any) -> tuple[str, ...] | None:
    return None if node.args_unspecified else tuple(_type(each.type_name) for each in node.objargs)


def _mode(parameter: Any) -> str:
    return str(parameter.DESCRIPTOR.fields_by_name["mode"].enum_type.values_by_number[parameter.mode].name)


_BUILT_IN: Final = "pg_catalog"
# The grammar writes built-in types by their catalog names, pg_get_object_address by their SQL names.
_SQL_NAMES: Final = {
    "int4": "integer", "int8": "bigint", "int2": "smallint", "bool": "boolean", "float8": "double precision",
    "float4": "real", "varchar": "character varying", "bpchar": "character", "timestamptz": "timestamp with time zone",
    "timestamp": "timestamp without time zone", "timetz": "time with time zone", "time": "time without time zone",
    "varbit": "bit varying",
}  # fmt: skip


def _type(node: Any) -> str:
    parts = [part for each in node.names for part in _strings(each)]
    last = parts[-1] if parts else ""
    return _SQL_NAMES.get(last, last) + "[]" * bool(node.array_bounds)
