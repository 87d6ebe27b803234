"""The names of the figures: one list, and everything that uses them agrees with it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml
from hypothesis import given
from hypothesis import strategies as st

from logship import errors, metrics
from logship.metrics import ALL, Durations, Kind

ROOT = Path(__file__).resolve().parents[2]
NAME = re.compile(r"\blogship_[a-z0-9_]+")
SAMPLES = {sample for metric in ALL for sample in metric.samples}
LABELS = {
    sample: set(metric.labels) | {"le", "job", "instance"} for metric in ALL for sample in metric.samples
}


def test_names_follow_prometheus_conventions() -> None:
    assert len({metric.name for metric in ALL}) == len(ALL)
    for metric in ALL:
        assert re.fullmatch(r"logship_[a-z][a-z0-9_]*[a-z]", metric.name), metric.name
        assert (metric.kind is Kind.COUNTER) == metric.name.endswith("_total"), metric.name
        assert metric.kind is not Kind.HISTOGRAM or metric.name.endswith("_seconds"), metric.name
        assert metric.help.endswith("."), metric.name
        assert not set(metric.labels) & {"le", "quantile", "job", "instance"}, metric.name


def test_the_page_on_figures_has_every_one_of_them_as_they_are() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(logship_\w+)` \| (\w+) \| ([^|]*) \| (.*) \|$", page, re.M)
    expected = [
        (m.name, m.kind.value, ", ".join(f"`{label}`" for label in m.labels) or "—", m.help) for m in ALL
    ]
    assert rows == expected


def test_the_page_on_retries_has_the_table_as_it_is() -> None:
    page = (ROOT / "docs" / "retries.md").read_text()
    rows = re.findall(r"^\| (`\w+`|—|other) \| `(\w+)` \| (tried again|stops) \| (.*) \|$", page, re.M)
    given_rules = [*errors.RULES, errors.LINK_LOST, errors.OTHER]
    codes = {errors.LINK_LOST.reason: "—", errors.OTHER.reason: "other"}
    assert rows == [
        (codes.get(r.reason, f"`{r.code}`"), r.reason, "tried again" if r.again else "stops", r.what)
        for r in given_rules
    ]


def test_no_rule_hides_another() -> None:
    for rule in errors.RULES:
        assert errors.rule_of(rule.code if len(rule.code) == 5 else rule.code + "000") is rule
    assert errors.rule_of(None) is errors.LINK_LOST
    assert errors.rule_of("23505") is errors.OTHER
    assert len({rule.reason for rule in errors.RULES}) == len(errors.RULES)


def _expressions(value: object) -> list[str]:
    """Every string under the key ``expr`` or ``query``, however deep."""
    if isinstance(value, dict):
        own = [v for k, v in value.items() if k in {"expr", "query", "definition"} and isinstance(v, str)]
        return own + [e for v in value.values() for e in _expressions(v)]
    if isinstance(value, list):
        return [e for v in value for e in _expressions(v)]
    return []


def _check(expressions: list[str]) -> set[str]:
    """Names and labels of ``expressions`` are those of the module; the names."""
    used: set[str] = set()
    for expression in expressions:
        names = set(NAME.findall(expression))
        assert names, expression
        assert names <= SAMPLES, f"{names - SAMPLES} in {expression}"
        for name, selector in re.findall(r"\b(logship_[a-z0-9_]+)\{([^}]*)\}", expression):
            labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
            assert labels <= LABELS[name], f"{labels} of {name}"
        for listed in re.findall(r"\b(?:by|without|on)\s*\(([^)]*)\)", expression):
            known = set().union(*(LABELS[name] for name in names))
            assert {label.strip() for label in listed.split(",")} <= known, expression
        used |= names
    return used


def test_the_dashboard_asks_for_figures_that_exist() -> None:
    dashboard = json.loads((ROOT / "examples" / "grafana-dashboard.json").read_text())
    used = _check([e for e in _expressions(dashboard) if "logship_" in e])
    assert {metrics.LAG_SECONDS.name, metrics.STATE.name, metrics.SLOT_RETAINED.name} <= used
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells)), "panels lie over one another"
    assert max(x for x, _ in cells) < 24


def test_the_alert_rules_ask_for_figures_that_exist() -> None:
    groups = yaml.safe_load((ROOT / "examples" / "alerts.yml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 5
    for rule in rules:
        _check([rule["expr"]])
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert {"summary", "description"} <= set(rule["annotations"])


@given(st.lists(st.floats(0, 100)))
def test_durations_count_like_a_histogram(observed: list[float]) -> None:
    bounds = (0.001, 0.1, 1.0, 10.0)
    durations = Durations(bounds)
    for seconds in observed:
        durations.observe(seconds)
    read = durations.read()
    assert read.counts == tuple(sum(1 for s in observed if s <= bound) for bound in bounds)
    assert read.count == len(observed)
    assert abs(read.sum_s - sum(observed)) < 1e-6 * max(1.0, sum(observed))
