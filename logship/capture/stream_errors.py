"""What an error of the walsender means.

In: SQLSTATE and the primary message of a server's error, or what libpq says of a link that broke.
Out: the `PrimaryError` to raise, which says whether the stream may simply be opened again
(``transient``). No I/O. Details and contexts of errors aren't passed on: they may hold row values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from logship.errors import PrimaryError, PublicationMissing, SlotActive, SlotLost, StreamBroken, is_transient

HINTS: Final[dict[str, str]] = {
    "42501": "the user of --primary needs the attribute REPLICATION: alter role <user> replication",
    "22021": "the database is SQL_ASCII and holds bytes that are not UTF-8: mend the rows or leave the table "
    "out of the publication",
    "22P05": "the database holds characters that have no equivalent in UTF-8: mend the rows or leave the "
    "table out of the publication",
    "53300": "raise max_wal_senders or max_connections on the primary, or close other sessions",
    "53400": "raise max_replication_slots on the primary",
}
# These name values of rows in their messages.
_SILENT: Final[dict[str, str]] = {
    "22021": "text that is not valid in its encoding",
    "22P05": "text that can't be converted to UTF-8",
}


def stream_error(sqlstate: str | None, message: str, slot: str, publications: Sequence[str]) -> PrimaryError:
    """The error to raise for a stream that ended with ``sqlstate`` (None: the link broke)."""
    if sqlstate == "42704":
        # Its language may have other quotes (lc_messages): what is left then is that there is only one.
        named = [name for name in publications if f'"{name}"' in message] or publications
        if len(named) == 1:
            return PublicationMissing(named[0], sqlstate=sqlstate)
    if sqlstate in ("55006", "58P01"):
        error = SlotActive(slot, None) if sqlstate == "55006" else SlotLost(slot, message)
        error.sqlstate = sqlstate
        return error
    return StreamBroken(
        _SILENT.get(sqlstate or "", message) or "the connection was closed",
        sqlstate=sqlstate,
        transient=is_transient(sqlstate),
        hint=HINTS.get(sqlstate or "", ""),
    )
