"""What the text of a schema change holds: users' code, or CONCURRENTLY.

In: one statement's text, which PostgreSQL's grammar takes. Out: whether running it evaluates anything that
users wrote; and the text as it can run inside a transaction. Cuts by location. No I/O.
"""

from __future__ import annotations

from typing import Any, Final

import postgast

# Statements that name roles, objects and options, and evaluate nothing. A schema's elements may.
_PLAIN: Final = frozenset({
    "alter_owner_stmt", "grant_stmt", "grant_role_stmt", "alter_default_privileges_stmt", "comment_stmt",
    "sec_label_stmt", "create_extension_stmt", "alter_extension_stmt", "alter_extension_contents_stmt",
    "alter_object_schema_stmt", "rename_stmt", "create_fdw_stmt", "alter_fdw_stmt", "create_foreign_server_stmt",
    "alter_foreign_server_stmt", "create_user_mapping_stmt", "alter_user_mapping_stmt", "drop_user_mapping_stmt",
    "create_plang_stmt", "create_am_stmt", "drop_stmt", "drop_owned_stmt",
})  # fmt: skip
_CONCURRENTLY: Final = "CONCURRENTLY"
# Where the word stands in each: what comes before or behind it may be a name.
_FIRST: Final = frozenset({"index_stmt", "drop_stmt", "refresh_mat_view_stmt", "reindex_stmt"})


def holds_no_code(text: str) -> bool:
    """Whether nothing that users wrote runs with it, so that whose rights it runs with is safe to choose."""
    name, node = _statement(text)
    if name in _PLAIN:
        return True
    if name == "create_schema_stmt":
        return not node.schema_elts
    if name == "alter_table_stmt":
        return all(_subtype(command.alter_table_cmd) == "AT_ChangeOwner" for command in node.cmds)
    return False


def in_a_transaction(text: str) -> str:
    """``text`` without the CONCURRENTLY that a transaction doesn't allow; with it nothing else changes here,
    where one session writes."""
    name, node = _statement(text)
    detaches = name == "alter_table_stmt" and any(
        command.alter_table_cmd.HasField("def")
        and getattr(command.alter_table_cmd, "def").WhichOneof("node") == "partition_cmd"
        and getattr(command.alter_table_cmd, "def").partition_cmd.concurrent
        for command in node.cmds
    )
    if not (detaches or (name in _FIRST and getattr(node, "concurrent", False))):
        return text
    source = text.encode()
    words = [
        (token.start, token.end)
        for token in postgast.scan(text).tokens
        if source[token.start : token.end].upper() == _CONCURRENTLY.encode()
    ]
    start, end = words[-1 if detaches else 0]
    return (source[:start].rstrip() + b" " + source[end:].lstrip()).decode().strip()


def _statement(text: str) -> tuple[str, Any]:
    statement = postgast.parse(text).stmts[0].stmt
    name = statement.WhichOneof("node")
    return name, getattr(statement, name)


def _subtype(command: Any) -> str:
    kinds = command.DESCRIPTOR.fields_by_name["subtype"].enum_type.values_by_number
    return str(kinds[command.subtype].name)
