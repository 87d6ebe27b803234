"""Changes one object in memory: where a batch's rows go, and how its delta comes into its main part.

In: the object's `MemoryTable` and `Parts`, and a batch's part for it; an open DuckDB transaction, or none
where every statement may stand alone. Out: the next parts. Assumes the writer's thread. Rows that aren't there
as the log has them are `MemoryDiffers`: at once where they are looked for in main or stand in the delta,
otherwise when the delta is merged.

What a batch does to a large main is written to the delta only, so that it costs what the batch costs. New rows
go to main in any case, unless the delta has their keys: an entry hides what main has at its key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from logship.errors import ReplayError
from logship.lsn import Lsn
from logship.replay.memory.keys import FEW, KEY_BYTES, DeltaKeys, Key, Known, listed
from logship.replay.memory.parts import Merge, Parts, Segment, Span
from logship.replay.memory.rows import KeyedPart, KeylessPart, flagged
from logship.replay.memory.store import Store, size_of
from logship.replay.memory.table import MemoryColumn, MemoryTable
from logship.replay.target import Target

Table: TypeAlias = Any  # pyarrow.Table; pyarrow has no types

_MANY_NEW: Final = 1024  # rows: worth statements of their own


class MemoryDiffers(ReplayError):
    """A change names rows that aren't in memory as the log has them."""

    def __init__(self, target: Target, lsn: Lsn, expected: int, found: int) -> None:
        super().__init__(
            f"{target} in memory differs from the log at {lsn}: {expected} rows to change, {found} found",
            hint="run `logship verify`: the secondary may differ too. If it doesn't, start again: memory is "
            "loaded anew; --memory off goes on without it",
        )
        self.target = target
        self.lsn = lsn
        self.expected = expected
        self.found = found


class Writing:
    """One object, while the writer is at it. ``parts`` are what stands when the transaction commits;
    `settle` last."""

    def __init__(self, store: Store, table: MemoryTable, parts: Parts, lsn: Lsn) -> None:
        """``lsn`` is for errors."""
        self.store = store
        self.table = table
        self.parts = parts
        self._lsn = lsn
        self._before = parts.layout

    # -- making, showing, emptying ---------------------------------------------------------------------

    def create(self) -> None:
        self.store.execute(self.table.create_space())
        self._renew()

    def _renew(self) -> None:
        """An empty delta and one empty segment, beside what is there."""
        number = self.parts.next_number
        self.store.execute(self.table.create_segment(number))
        self.store.execute(self.table.create_delta(number + 1))
        self.parts = Parts(
            (Segment(number),), next_number=number + 2, delta=number + 1, shown=self.parts.shown
        )

    def truncate(self) -> None:
        old = self.parts
        self._renew()
        self.settle()
        for segment in old.segments:
            self.store.execute(f"drop table {self.table.segment(segment.number)}")
        self.store.execute(f"drop table {self.table.delta(old.delta)}")

    def settle(self) -> None:
        """Let readers see the parts as they are now, where they see the object at all."""
        if self.parts.shown and self.parts.layout != self._before:
            self.store.execute(self.table.show(self.parts))
        self._before = self.parts.layout

    # -- batches ---------------------------------------------------------------------------------------

    def append(self, rows: Table) -> None:
        """Put new rows into main."""
        while rows.num_rows:
            last = self._open_segment()
            here = last.room(rows.num_rows)
            part, rows = rows.slice(0, here), rows.slice(here)
            self.store.put(part, partial(self.table.insert, last.number))
            self.parts = self.parts.with_segment(
                last.gained(here, size_of(part, self.table.columns), self._span(part))
            )

    def _span(self, rows: Table) -> Span | None:
        key = self.table.integer_key
        if key is None or not pa.types.is_integer(rows.schema.field(f"c{key.index}").type):
            return None
        ends = pc.min_max(rows.column(f"c{key.index}"))
        return Span(key.name, ends["min"].as_py(), ends["max"].as_py()) if ends["min"].is_valid else None

    def _merged_span(self, merge: Merge) -> Span | None:
        key = self.table.integer_key
        if key is None:
            return None
        [(low, high)] = self.store.rows(self.table.span(self.parts.delta, merge.born))
        return None if low is None else Span(key.name, low, high)

    def _open_segment(self) -> Segment:
        last = self.parts.segments[-1]
        if not last.full:
            return last
        made = Segment(self.parts.next_number)
        self.store.execute(self.table.create_segment(made.number))
        self.parts = replace(self.parts, segments=(*self.parts.segments, made), next_number=made.number + 1)
        return made

    def change(self, part: KeyedPart | KeylessPart) -> None:
        if isinstance(part, KeylessPart):
            self._change_equal(part)
        elif not part.going:
            if part.rows is not None:
                self._put_new(part.rows)
        elif self.parts.at_once(part.going):
            self.merge_all()
            self._change_main(part)
        else:
            if self.parts.overfull:
                self.merge_all()
            self._change_delta(part)

    def _change_equal(self, part: KeylessPart) -> None:
        if part.equal is not None:
            with self.store.staged(part.equal) as view:
                found = self.store.table(self.table.equal(view, self.parts))
            if found.num_rows != part.going:
                raise MemoryDiffers(self.table.target, self._lsn, part.going, found.num_rows)
            places = pc.unique(found.column("place")).to_pylist()
            with self.store.staged(found) as view:
                for place, segment in ((place, self.parts.segments[place]) for place in places):
                    gone = self.store.count(self.table.delete_rowids(segment.number, place, view))
                    self.parts = self.parts.with_segment(segment.lost(gone))
        if part.rows is not None:
            self.append(part.rows)

    def _change_main(self, part: KeyedPart) -> None:
        completed = self._completed(part)
        keys = part.keys()
        gone = 0
        with self._deleting(keys) as delete:
            for segment in self.parts.segments:
                if gone < part.going:
                    found = self.store.count(delete(segment.number))
                    self.parts = self.parts.with_segment(segment.lost(found))
                    gone += found
        if gone != part.going:
            raise MemoryDiffers(self.table.target, self._lsn, part.going, gone)
        for rows in (part.rows, completed):
            if rows is not None:
                self.append(rows)

    @contextmanager
    def _deleting(self, keys: Table) -> Iterator[Callable[[int], str]]:
        """The statement that deletes the rows at ``keys`` from a segment."""
        key = self.table.key
        few = listed(keys.column(0).to_pylist(), key) if len(key) == 1 and keys.num_rows <= FEW else None
        if few is not None:
            yield lambda number: self.table.delete_keys_listed(number, few)
            return
        with self.store.staged(keys) as view:
            yield lambda number: self.table.delete_keys(number, view)

    def _completed(self, part: KeyedPart) -> Table | None:
        if part.partial is None:
            return None
        with self.store.staged(part.partial) as view:
            completed = self.store.table(self.table.complete(view, self.parts))
        if completed.num_rows != part.partial.num_rows:
            raise MemoryDiffers(self.table.target, self._lsn, part.partial.num_rows, completed.num_rows)
        return completed

    # -- the delta -------------------------------------------------------------------------------------

    def _put_new(self, rows: Table) -> None:
        if not self.parts.delta_rows:
            self.append(rows)
            return
        entries = flagged(rows, live=True, main=False)
        if self._is_known(entries):
            self._enter(entries)
        else:
            self.append(rows)

    def _is_known(self, entries: Table) -> bool:
        """Whether the delta has any of their keys."""
        keys = self._keys()
        if keys is not None:
            return keys.has_any(keys.keys(entries))
        with self.store.staged(self._numbered(entries)) as view:
            return bool(self._known(view))

    def _change_delta(self, part: KeyedPart) -> None:
        entries, new = part.entries(self._completed(part))
        if new is not None and new.num_rows < _MANY_NEW:
            entries = pa.concat_tables(
                [entries, flagged(new, live=True, main=False)], promote_options="default"
            )
            new = None
        self._enter(entries)
        if new is not None:
            self._put_new(new)

    def _numbered(self, entries: Table) -> Table:
        count = entries.num_rows
        numbered = entries.append_column("nth", pa.array(range(count), pa.int32()))
        return numbered.append_column("born", pa.array([self.parts.epoch] * count, pa.int32()))

    def _known(self, view: str) -> list[Known]:
        """Of the entries in ``view`` that have one at their key already: which, and what that says."""
        if not self.parts.delta_rows:
            return []
        return [Known(*row) for row in self.store.rows(self.table.in_delta(self.parts.delta, view))]

    def _keys(self) -> DeltaKeys | None:
        """What the delta says at each key; None where keys are of a kind that isn't held here."""
        parts, key = self.parts, self.table.key
        if not DeltaKeys.fit(key):
            return None
        if parts.keys is not None and parts.keys.stands_for(key, parts.delta, parts.keys_version):
            return parts.keys
        made = DeltaKeys(key, parts.delta)
        if parts.delta_rows:
            made.fill(self.store.rows(self.table.entries(parts.delta)))
        self.parts = replace(parts, keys=made, keys_version=made.version)
        return made

    def _enter(self, entries: Table) -> None:
        keys = self._keys()
        if keys is None:
            self._enter_joined(entries)
            return
        at = keys.keys(entries)
        known = keys.known(at, entries.column("main").to_pylist())
        self._require_right(known, entries)
        numbered = self._numbered(entries)
        gone = [at[one.nth] for one in known]
        if known:
            self._delete_entries(numbered, known, gone)
            numbered = _replacing(numbered, known)
        if numbered.num_rows:
            self._insert_entries(numbered)
        keys.put(numbered, gone)
        self.parts = replace(self.parts, keys_version=keys.version)

    def _delete_entries(self, numbered: Table, known: Sequence[Known], gone: Sequence[Key]) -> None:
        few = listed(gone, self.table.key)
        if few is not None:
            self.store.execute(self.table.delete_listed(self.parts.delta, few))
            return
        with self.store.staged(numbered.take([one.nth for one in known])) as view:
            self.store.execute(self.table.delete_entries(self.parts.delta, view))

    def _enter_joined(self, entries: Table) -> None:
        numbered = self._numbered(entries)
        with self.store.staged(numbered) as view:
            known = self._known(view)
            if known:
                self._require_right(known, entries)
                self.store.execute(self.table.delete_entries(self.parts.delta, view))
        self._insert_entries(_replacing(numbered, known) if known else numbered)

    def _require_right(self, known: Sequence[Known], entries: Table) -> None:
        wrong = sum(one.wrong for one in known)
        if wrong:
            rows = entries.num_rows
            raise MemoryDiffers(self.table.target, self._lsn, rows, rows - wrong)

    def _insert_entries(self, entries: Table) -> None:
        delta, columns = self.parts.delta, set(entries.column_names)
        self.store.put(entries, lambda view: self.table.insert_entries(delta, view, columns))
        self.parts = replace(
            self.parts,
            delta_rows=self.parts.delta_rows + entries.num_rows,
            delta_bytes=self.parts.delta_bytes
            + size_of(entries, self.table.columns)
            + entries.num_rows * KEY_BYTES,
        )

    # -- merging ---------------------------------------------------------------------------------------

    def merge_all(self) -> None:
        while self.parts.delta_rows:
            self.merge_some()

    def merge_some(self) -> bool:
        """One bounded piece of a merge, which begins here where none is under way. True when it is whole."""
        merge = self.parts.merge
        if merge is None:
            merge = self._begin_merge()
        if not merge.segments:
            self._end_merge(merge)
            return True
        number, *left = merge.segments
        found = self.store.count(self.table.delete_replaced(number, self.parts.delta, merge.born))
        segment = next(one for one in self.parts.segments if one.number == number)
        merge = replace(merge, segments=tuple(left), found=merge.found + found)
        self.parts = replace(self.parts.with_segment(segment.lost(found)), merge=merge)
        return False

    def _begin_merge(self) -> Merge:
        born = self.parts.epoch
        replaced = self.table.replaced(self.parts.delta, born)
        expected = self.store.count(f"select count(*) from ({replaced})")
        numbers = tuple(segment.number for segment in self.parts.segments) if expected else ()
        merge = Merge(born, numbers, expected)
        self.parts = replace(self.parts, epoch=born + 1, merge=merge)
        return merge

    def _end_merge(self, merge: Merge) -> None:
        if merge.found != merge.expected:
            raise MemoryDiffers(self.table.target, self._lsn, merge.expected, merge.found)
        last = self._open_segment()
        old, made = self.parts.delta, self.parts.next_number
        rows = self.store.count(self.table.insert_merged(last.number, old, merge.born))
        span = self._merged_span(merge) if rows else None
        each = self.parts.delta_bytes / max(1, self.parts.delta_rows)
        in_main = max(0.0, each - KEY_BYTES)
        self.store.execute(self.table.create_delta(made))
        left = self.store.count(self.table.insert_left(old, made, merge.born))
        self.parts = replace(
            self.parts.with_segment(last.gained(rows, int(rows * in_main), span) if rows else last),
            next_number=made + 1, delta=made, delta_rows=left, delta_bytes=int(left * each), merge=None,
        )  # fmt: skip
        self.settle()
        self.store.execute(f"drop table {self.table.delta(old)}")

    def rewrite(self, segment: Segment) -> None:
        """Give back the space of a segment's dead rows. Not while a merge goes through the segments."""
        made = Segment(self.parts.next_number, segment.rows, 0, segment.live_bytes, segment.span)
        self.store.execute(self.table.rewrite(segment.number, made.number))
        segments = tuple(made if one == segment else one for one in self.parts.segments)
        if not made.rows and len(segments) > 1:
            self.store.execute(f"drop table {self.table.segment(made.number)}")
            segments = tuple(one for one in segments if one != made)
        self.parts = replace(self.parts, segments=segments, next_number=made.number + 1)
        self.settle()
        self.store.execute(f"drop table {self.table.segment(segment.number)}")

    def to_text(self, columns: Sequence[MemoryColumn]) -> None:
        """Turn ``columns`` into text. The table is another afterwards: the caller makes and shows it."""
        self.store.execute(self.table.hide())
        for column in columns:
            for statement in self.table.to_text(column, self.parts):
                self.store.execute(statement)


def _replacing(entries: Table, known: Sequence[Known]) -> Table:
    """``entries`` that come in the place of those; what main holds at a key stays what it was."""
    main, born = entries.column("main").to_pylist(), entries.column("born").to_pylist()
    for one in known:
        main[one.nth], born[one.nth] = one.main, one.born
    for name, values, kind in (("main", main, pa.bool_()), ("born", born, pa.int32())):
        place = entries.schema.get_field_index(name)
        entries = entries.set_column(place, name, pa.array(values, kind))
    # What came and went within the delta is no entry: main never knew.
    return entries.filter(pc.or_(entries.column("live"), entries.column("main")))
