"""Empties tables, with the rights of each one's owner.

In: targets, and what the secondary's catalog says of foreign keys and sequences. Out: statements: one
TRUNCATE for each owner, where no foreign key leads to a table from outside of its owner's TRUNCATE;
else DELETE for each table, and its sequences begin again by themselves when they should.
Foreign keys are not checked in a session that replicates, but TRUNCATE looks at them all the same.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from logship.replay.session import TEXT_ARRAY, Command
from logship.replay.shape import SecondaryTarget
from logship.replay.statements import Statement, delete_all, restart_sequence, truncate

# Of each target: what refers to it or to a partition of it, by the root's oid, and its own sequences.
_FACTS: Final = b"""
with recursive target (oid) as (select pg_catalog.unnest($1)::pg_catalog.oid),
tree (root, oid) as (
  select t.oid, t.oid from target t
  union
  select tree.root, i.inhrelid from tree
    join pg_catalog.pg_inherits i on i.inhparent operator(pg_catalog.=) tree.oid
    join pg_catalog.pg_class c on c.oid operator(pg_catalog.=) i.inhrelid and c.relispartition
)
select pg_catalog.jsonb_build_object(
  'references', coalesce((
    select pg_catalog.jsonb_agg(distinct pg_catalog.jsonb_build_array(
             tree.root::pg_catalog.int8, coalesce(other.root, k.conrelid)::pg_catalog.int8))
      from pg_catalog.pg_constraint k
      join tree on tree.oid operator(pg_catalog.=) k.confrelid
      left join tree other on other.oid operator(pg_catalog.=) k.conrelid
     where k.contype operator(pg_catalog.=) 'f'), '[]'),
  'sequences', coalesce((
    select pg_catalog.jsonb_agg(distinct pg_catalog.jsonb_build_array(
             tree.root::pg_catalog.int8, n.nspname, s.relname))
      from pg_catalog.pg_depend d
      join tree on tree.oid operator(pg_catalog.=) d.refobjid
      join pg_catalog.pg_class s on s.oid operator(pg_catalog.=) d.objid
       and s.relkind operator(pg_catalog.=) 'S'
      join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) s.relnamespace
     where d.classid operator(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
       and d.refclassid operator(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
       and d.deptype operator(pg_catalog.=) any ('{a,i}'::pg_catalog."char"[])), '[]'))
"""


def facts_query(oids: bytes) -> Command:
    """What `statements` needs to know. ``oids``: the targets', a binary text[]."""
    return Command(_FACTS, [oids], [TEXT_ARRAY])


def statements(targets: Sequence[SecondaryTarget], restart_identity: bool, facts: bytes) -> list[Statement]:
    known = json.loads(facts)
    by_owner: dict[int, list[SecondaryTarget]] = {}
    for target in {target.oid: target for target in targets}.values():
        by_owner.setdefault(target.owner_oid, []).append(target)
    emptied: list[Statement] = []
    for group in by_owner.values():
        inside = {target.oid for target in group}
        if all(referring in inside for referred, referring in known["references"] if referred in inside):
            emptied.append(truncate(group, restart_identity))
            continue
        emptied += [delete_all(target) for target in group]
        if restart_identity:
            by_oid = {target.oid: target for target in group}
            emptied += [
                restart_sequence(by_oid[oid], schema, name)
                for oid, schema, name in known["sequences"]
                if oid in by_oid
            ]
    return emptied
