"""Sets sequences of the secondary to what the primary's signed messages say of them.

In: states in the order of the log, and the session whose transaction is open. Out: `setval`, by the functions
that run as each sequence's owner. A sequence that isn't there (any more, or because its table is left out) is
passed over; one whose bounds differ here is set inside of them. Never undone by a rollback, and safe so: a
state says what the primary has reached, whatever becomes of the rows.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Final

from logship.kernel import binary_text_array
from logship.replay.ddl.message import SequenceState
from logship.replay.session import TEXT, TEXT_ARRAY, Command, Session

log = logging.getLogger(__name__)

# By owner: the function that runs schema changes as that role (null: there is none), and what it is to run.
_FIND: Final = b"""
select pg_catalog.json_agg(pg_catalog.json_build_array(found.owner, found.function, found.statement))
  from (
    select r.rolname as owner, pg_catalog.min(pg_catalog.quote_ident(n.nspname) operator(pg_catalog.||) '.'
             operator(pg_catalog.||) pg_catalog.quote_ident(p.proname)) as function,
           'select ' operator(pg_catalog.||) pg_catalog.string_agg(pg_catalog.format(
             'pg_catalog.setval(%s::pg_catalog.oid::pg_catalog.regclass, %s, %L)', s.seqrelid,
             case when given.value operator(pg_catalog.>) s.seqmax then s.seqmax
                  when given.value operator(pg_catalog.<) s.seqmin then s.seqmin else given.value end,
             given.called), ', ') as statement
      from (select u.schema, u.name, u.value::pg_catalog.int8 as value, u.called::pg_catalog.bool as called
              from rows from (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3),
                              pg_catalog.unnest($4)) as u (schema, name, value, called)) given
      join pg_catalog.pg_namespace m on m.nspname operator(pg_catalog.=) given.schema::pg_catalog.name
      join pg_catalog.pg_class c on c.relnamespace operator(pg_catalog.=) m.oid
       and c.relname operator(pg_catalog.=) given.name::pg_catalog.name
      join pg_catalog.pg_sequence s on s.seqrelid operator(pg_catalog.=) c.oid
      join pg_catalog.pg_roles r on r.oid operator(pg_catalog.=) c.relowner
      left join (pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) p.pronamespace
                   and n.nspname operator(pg_catalog.=) 'logship_writers')
        on p.prosecdef and p.proowner operator(pg_catalog.=) c.relowner
       and p.proname operator(pg_catalog.=) ('ddl_as_' operator(pg_catalog.||) p.proowner::pg_catalog.text)
     group by r.rolname) found
"""


def set_sequences(session: Session, states: Sequence[SequenceState]) -> None:
    """The last state of each holds. Raises `ServerError`."""
    last = {(state.schema, state.name): state for state in states}
    columns = (
        [state.schema.encode() for state in last.values()],
        [state.name.encode() for state in last.values()],
        [b"%d" % state.value for state in last.values()],
        [b"true" if state.called else b"false" for state in last.values()],
    )
    found = session.run(
        [Command(_FIND, [binary_text_array(column) for column in columns], [TEXT_ARRAY] * 4)]
    )[0]
    none = binary_text_array([])
    for owner, function, statement in json.loads(found) if found else ():
        if function is None:
            log.warning(
                'sequences of "%s" are not set on the secondary, which has no function that acts as that role: '
                "run `logship init` again",
                owner,
            )
            continue
        call = b"select %b($1, $2, $3)" % function.encode()
        session.run(
            [
                Command(call, [statement.encode(), none, none], [TEXT, TEXT_ARRAY, TEXT_ARRAY]),
                Command(b"reset all"),
            ]
        )
