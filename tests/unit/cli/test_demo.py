"""How the demo shows itself: a table that stays in its place on a terminal, lines elsewhere."""

from __future__ import annotations

import datetime as dt
import io

from rich.console import Console

from logship.cli.demo import Display, as_object, show, table
from logship.service.compare.comparison import Compared
from logship.service.demo.demo import Sample, StageLag, Verdict
from logship.service.demo.shop_migrations import Migrated, Revision

SAMPLE = Sample(
    elapsed_s=3.0,
    committed=70,
    replayed=None,
    changes_per_s=None,
    state=None,
    stages=[StageLag("flushed", "0/16B3748", 120, dt.timedelta(milliseconds=2), dt.timedelta(0)),
            StageLag("memory", None, None, None, None)],
)  # fmt: skip
VERDICT = Verdict(
    [Migrated(Revision("shop_0001", "Points"), 0.25), Migrated(Revision("shop_0002", "Reviews"), None)],
    ["table shop.review: only on the primary"],
    [Compared("shop.product", 5, 4, False)], {"shop.product": 5}, 70, 70, {"persistence": 0.1, "memory": 2.0},
)  # fmt: skip


def console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, force_terminal=terminal, width=100, highlight=False), text


def test_elsewhere_a_line_says_what_is_unknown() -> None:
    shown, text = console(terminal=False)
    with Display(shown) as display:
        display.sample(SAMPLE)
        display.sample(SAMPLE)
    assert text.getvalue().splitlines() == [
        "   3 s  70 transactions committed on the primary, - replayed, - row changes/s; "
        "lag: flushed 2 ms, memory -"
    ]


def test_on_a_terminal_the_table_is_refreshed_in_place() -> None:
    shown, text = console(terminal=True)
    with Display(shown) as display:
        for _ in range(3):
            display.sample(SAMPLE)
            display._live.refresh()  # type: ignore[union-attr]
    assert "\x1b[1A" in text.getvalue()
    assert "0/16B3748" in text.getvalue()


def test_the_table_has_a_row_for_each_stage() -> None:
    shown, text = console(terminal=False)
    shown.print(table(SAMPLE))
    assert "120 bytes" in text.getvalue()
    assert "memory" in text.getvalue()


def test_the_verdict_names_what_differs() -> None:
    shown, text = console(terminal=False)
    show(shown, VERDICT)
    assert "DIFFERENT" in text.getvalue()
    assert "memory within 2.0 s" in text.getvalue()
    assert (
        "1 of 2 migrations arrived, and the schemas differ:\n  table shop.review: only on" in text.getvalue()
    )
    assert "arrived, seen after 250 ms" in text.getvalue()
    assert "MISSING" in text.getvalue()
    shown_json = as_object(VERDICT)
    assert shown_json["equal"] is False
    assert [each["seen_after_s"] for each in shown_json["migrations"]] == [0.25, None]
    assert shown_json["schema_differences"] == ["table shop.review: only on the primary"]
