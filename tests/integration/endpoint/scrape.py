"""Asks the endpoint of a replica that runs in this process, as a scraper and a probe would."""

from __future__ import annotations

import http.client
import json
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from logship.config import Address, Intervals
from tests.follow import Follower
from tests.servers import eventually

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def watched(**settings: Any) -> dict[str, Any]:
    """Settings of a run with an endpoint on a free port, whose stages stand after 2 s."""
    intervals = Intervals(report_s=0.2, position_s=0.02, stall_s=2.0)
    return {"metrics": Address("127.0.0.1", 0), "intervals": intervals, **settings}


def get(follower: Follower, path: str, **headers: str) -> tuple[int, bytes]:
    address = eventually(lambda: follower.run.metrics, what="the endpoint listens")
    link = http.client.HTTPConnection(address.host, address.port, timeout=10)
    try:
        link.request("GET", path, headers=headers)
        answer = link.getresponse()
        return answer.status, answer.read()
    finally:
        link.close()


def ready(follower: Follower) -> dict[str, Any]:
    """What /ready says, with its HTTP status."""
    code, body = get(follower, "/ready")
    answer: dict[str, Any] = json.loads(body)
    assert (code == 200) is answer["ready"]
    return answer


def until_ready(follower: Follower, deadline_s: float = 30.0) -> None:
    eventually(lambda: ready(follower)["ready"], deadline_s, what="/ready says 200")


def until_stalled(follower: Follower, stage: str, deadline_s: float = 20.0) -> str:
    """Wait until /ready names ``stage`` as one that stands; the reason."""

    def stalled() -> str:
        answer = ready(follower)
        named = answer["state"] == "stalled" and f"{stage} stands" in answer["reason"]
        return answer["reason"] if named else ""

    return eventually(stalled, deadline_s, what=f"{stage} is reported to stand")


def series(follower: Follower) -> Series:
    """Every sample of a scrape."""
    code, body = get(follower, "/metrics")
    assert code == 200
    found: Series = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            found[(sample.name, frozenset(sample.labels.items()))] = sample.value
    return found


def value(found: Series, name: str, **labels: str) -> float | None:
    """The one sample of ``name`` with these labels among its own; None when there is none."""
    values = [v for (n, own), v in found.items() if n == name and labels.items() <= dict(own).items()]
    assert len(values) <= 1, f"{name} {labels} is not one series"
    return values[0] if values else None
