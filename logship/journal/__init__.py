"""The append-only log between capture and replay: `segment` has its bytes, `log` its files and threads."""

from logship.journal.log import Journal
from logship.journal.reader import JournalReader
from logship.journal.retention import Retention, Segment
from logship.journal.segment import Record, RecordKind, Source

__all__ = ["Journal", "JournalReader", "Record", "RecordKind", "Retention", "Segment", "Source"]
