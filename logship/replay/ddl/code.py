"""What the text of a schema change holds: users' code, CONCURRENTLY, or a function's role.

In: one statement's text, which PostgreSQL's grammar takes. Out: whether running it evaluates anything that
users wrote; whether a function is given a role to run as; and the text as it can run inside a transaction. Cuts by
location. No I/O.
"""

from __future__ import annotations

from typing import Any, Final

import postgast

# Statements that name roles, objects and options, and evaluate nothing. A schema's elements may; so may the validator
# of a foreign data wrapper, which is whoever's function its maker named: servers and user mappings aren't among these.
_PLAIN: Final = frozenset({
    "alter_owner_stmt", "grant_stmt", "grant_role_stmt", "alter_default_privileges_stmt", "comment_stmt",
    "sec_label_stmt", "create_extension_stmt", "alter_extension_stmt", "alter_extension_contents_stmt",
    "alter_object_schema_stmt", "rename_stmt", "drop_user_mapping_stmt",
    "create_plang_stmt", "create_am_stmt", "drop_stmt", "drop_owned_stmt",
})  # fmt: skip
_ROLES: Final = frozenset({"role", "session_authorization"})
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


def sets_a_role(text: str) -> bool:
    """Whether a function or procedure is made or altered with SET role, or SET session_authorization."""
    name, node = _statement(text)
    options = {"create_function_stmt": "options", "alter_function_stmt": "actions"}.get(name)
    given = [each.def_elem for each in getattr(node, options)] if options else []
    return any(each.defname == "set" and each.arg.variable_set_stmt.name in _ROLES for each in given)


def in_a_transaction(text: str) -> str:
    """``text`` without the CONCURRENTLY that a transaction doesn't allow: here one session writes."""
    name, node = _statement(text)
    if name == "alter_table_stmt" and len(node.cmds) == 1:
        command = node.cmds[0].alter_table_cmd
        finalizes = _subtype(command) == "AT_DetachPartitionFinalize"
        if finalizes or (_subtype(command) == "AT_DetachPartition" and _detached(command).concurrent):
            child = _relation(_detached(command).name)
            return _detaching(_without(text, "FINALIZE" if finalizes else _CONCURRENTLY, -1), child)
        return text
    return _without(text, _CONCURRENTLY, 0) if name in _FIRST and getattr(node, "concurrent", False) else text


def _without(text: str, word: str, place: int) -> str:
    source = text.encode()
    found = [
        (token.start, token.end)
        for token in postgast.scan(text).tokens
        if source[token.start : token.end].upper() == word.encode()
    ]
    start, end = found[place]
    return (source[:start].rstrip() + b" " + source[end:].lstrip()).decode().strip()


def _detaching(text: str, child: str) -> str:
    """DETACH … CONCURRENTLY leaves what the partition's bounds said behind as a CHECK."""
    tag = "$detach$"
    while tag in text or tag in child:
        tag = tag[:-1] + "_$"
    name = "'" + child.replace("'", "''") + "'::pg_catalog.regclass"
    return f"""do {tag}
declare
  child constant pg_catalog.oid := {name};
  bounds constant pg_catalog.text := pg_catalog.pg_get_partition_constraintdef(child);
begin
  {text};
  if bounds is not null and not exists (
    select from pg_catalog.pg_constraint c
     where c.conrelid operator(pg_catalog.=) child and c.contype operator(pg_catalog.=) 'c'
       and pg_catalog.pg_get_expr(c.conbin, c.conrelid) operator(pg_catalog.=) bounds) then
    execute pg_catalog.format('alter table %s add check (%s)', child::pg_catalog.regclass, bounds);
  end if;
end {tag}"""


def _detached(command: Any) -> Any:
    return getattr(command, "def").partition_cmd


def _relation(named: Any) -> str:
    parts = [part for part in (named.schemaname, named.relname) if part]
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def _statement(text: str) -> tuple[str, Any]:
    statement = postgast.parse(text).stmts[0].stmt
    name = statement.WhichOneof("node")
    return name, getattr(statement, name)


def _subtype(command: Any) -> str:
    kinds = command.DESCRIPTOR.fields_by_name["subtype"].enum_type.values_by_number
    return str(kinds[command.subtype].name)
