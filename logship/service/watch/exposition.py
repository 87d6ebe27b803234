"""The figures for Prometheus, made when they are scraped.

In: the vitals of a run (None: it is only starting), the Accept header. Out: the text, in the format that
the scraper asked for. Names and meanings are those of `logship.metrics`; what isn't known has no sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

from logship import metrics
from logship.metrics import Distribution, Kind
from logship.relay.synchrony import State as PolicyState
from logship.replay.ddl.message import Verdict
from logship.service.positions import Stage
from logship.service.watch.health import State
from logship.service.watch.vitals import STARTED, ShipperVitals, Vitals, build, resident_memory
from logship.service.watch.watch import Condition

REPLICA_STATES: Final = ("away", "startup", "catchup", "streaming", "fractured", "lost")
WAL_STATUSES: Final = ("reserved", "extended", "unreserved", "lost")
_RESIDENCES: Final = ("cold", "loading", "resident", "pinned", "evicting")
_MOST_OBJECTS: Final = 50
_TARGETS: Final = ("persistence", "both")

Sample = tuple[tuple[str, ...], float | int | None]


def exposition(vitals: Vitals | ShipperVitals | None, accept: str) -> tuple[bytes, str]:
    """Body and content type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Scrape(vitals))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Scrape(Collector):
    def __init__(self, vitals: Vitals | ShipperVitals | None) -> None:
        self._vitals = vitals

    def collect(self) -> Iterator[Metric]:
        yield _family(metrics.BUILD, [((build()["version"], build()["python"]), 1)])
        yield _family(metrics.STARTED, [((), STARTED)])
        yield _family(metrics.RSS, [((), resident_memory())])
        vitals = self._vitals
        if vitals is None:
            return
        yield from _health(vitals)
        yield from _upstream(vitals)
        yield from _journal(vitals)
        yield from _slot(vitals)
        if isinstance(vitals, Vitals):
            yield from _stages(vitals)
            yield from _work(vitals)
            yield from _objects(vitals)
        else:
            yield from _relay(vitals)


def _health(vitals: Vitals | ShipperVitals) -> Iterator[Metric]:
    replica, health = vitals.replica, vitals.health
    now = health.state
    yield _family(metrics.STATE, [((replica, state.value), int(state is now)) for state in State])
    yield _family(metrics.READY, [((replica,), int(health.ready))])
    yield _family(metrics.ERRORS, [((replica, kind), n) for kind, n in sorted(health.errors.items())])
    retries = sorted(health.retries.items())
    yield _family(metrics.RETRIES, [((replica, *key), count) for key, count in retries])


def _upstream(vitals: Vitals | ShipperVitals) -> Iterator[Metric]:
    replica, primary = vitals.replica, vitals.positions.primary
    yield _family(metrics.PRIMARY_LSN, [((replica,), None if primary is None else int(primary[0]))])
    yield _family(metrics.PRIMARY_AGE, [((replica,), vitals.primary_age_s())])
    yield _family(metrics.RECEIVED_BYTES, [((replica,), vitals.received_bytes)])


def _stages(vitals: Vitals) -> Iterator[Metric]:
    replica = vitals.replica
    stages = vitals.stages()
    keys = [(replica, figures.stage.value) for figures in stages]
    known = [figures.verdict.condition is not Condition.UNKNOWN for figures in stages]
    columns: dict[metrics.Metric, list[float | int | None]] = {
        metrics.LSN: [None if f.lsn is None else int(f.lsn) for f in stages],
        metrics.LAG_BYTES: [f.lag_bytes for f in stages],
        metrics.LAG_SECONDS: [f.lag_s for f in stages],
        metrics.STALLED: [
            int(f.verdict.condition is Condition.STALLED) if k else None
            for f, k in zip(stages, known, strict=True)
        ],
        metrics.STANDING: [f.verdict.standing_s for f in stages],
    }
    for metric, values in columns.items():
        yield _family(metric, list(zip(keys, values, strict=True)))


def _work(vitals: Vitals) -> Iterator[Metric]:
    replica, replayed = vitals.replica, vitals.replayer.replayed
    for metric, value in (
        (metrics.TRANSACTIONS, replayed.transactions),
        (metrics.SKIPPED, replayed.passed_over),
        (metrics.CHANGES, replayed.changes),
        (metrics.COALESCED, replayed.coalesced),
        (metrics.REPLAYED_BYTES, replayed.size_bytes),
    ):
        yield _family(metric, [((replica,), value)])
    stores = [
        (stage, work) for stage, work in vitals.work.items() if stage is Stage.PERSISTENCE or vitals.memory_on
    ]
    yield _family(metrics.BATCHES, [((replica, stage.value), work.finished) for stage, work in stores])
    yield _histogram(
        metrics.APPLY, [((replica, stage.value), work.durations.read()) for stage, work in stores]
    )
    changes = replayed.schema_changes
    yield _family(metrics.SCHEMA_CHANGES, [((replica, target), changes[target]) for target in _TARGETS])
    yield _histogram(metrics.SCHEMA_CHANGE, [((replica,), replayed.schema_change_durations.read())])
    verdicts = [verdict.value for verdict in Verdict if verdict is not Verdict.PROVEN]
    yield _family(metrics.REFUSED, [((replica, each), replayed.refused[each]) for each in verdicts])
    queued = vitals.replayer.queued_bytes.items()
    yield _family(metrics.QUEUE, [((replica, stage.value), size) for stage, size in queued])
    yield _family(metrics.QUEUE_LIMIT, [((replica,), vitals.replay_bounds.queue_bytes)])


def _journal(vitals: Vitals | ShipperVitals) -> Iterator[Metric]:
    replica, journal = vitals.replica, vitals.journal
    segments = journal.segments()
    for metric, value in (
        (metrics.JOURNAL_BYTES, sum(segment.bytes for segment in segments)),
        (metrics.JOURNAL_LIMIT, vitals.journal_bounds.limit_bytes),
        (metrics.JOURNAL_SEGMENTS, len(segments)),
        (metrics.JOURNAL_OLDEST, int(segments[0].first_lsn) if segments else None),
        (metrics.JOURNAL_NEWEST, int(journal.written_lsn)),
    ):
        yield _family(metric, [((replica,), value)])
    yield _histogram(metrics.FSYNC, [((replica,), journal.fsyncs)])


def _slot(vitals: Vitals | ShipperVitals) -> Iterator[Metric]:
    """As the primary last said; nothing while it hasn't, or there is no such slot."""
    replica, answer = vitals.replica, vitals.answer
    if answer is None:
        return
    slot = answer.slot
    yield _family(metrics.SLOT_ACTIVE, [((replica,), int(bool(slot.active)))])
    yield _family(metrics.SLOT_RETAINED, [((replica,), slot.retained_bytes)])
    yield _family(metrics.SLOT_SAFE, [((replica,), slot.safe_wal_size)])
    statuses = WAL_STATUSES if slot.wal_status is not None else ()
    yield _family(
        metrics.SLOT_STATUS, [((replica, status), int(status == slot.wal_status)) for status in statuses]
    )


def _relay(vitals: ShipperVitals) -> Iterator[Metric]:
    relay, rows = vitals.relay, vitals.replicas.rows()
    yield _family(metrics.RELAY_CONNECTIONS, [((), relay.connections)])
    yield _family(metrics.RELAY_REFUSED, [((), relay.refused)])
    yield _family(metrics.RELAY_SENT, [((), relay.sent_bytes)])
    states = dict.fromkeys(REPLICA_STATES, 0)
    for row in rows:
        states[row.state] += 1
    yield _family(metrics.RELAY_REPLICAS, [((state,), count) for state, count in states.items()])
    yield _family(
        metrics.RELAY_STATE,
        [((row.name, state), int(state == row.state)) for row in rows for state in REPLICA_STATES],
    )
    policy = vitals.replicas.state
    yield _family(metrics.RELAY_POLICY, [((state.value,), int(state is policy)) for state in PolicyState])
    lsns: list[Sample] = []
    lags: list[Sample] = []
    for row in rows:
        said = row.positions
        known = (
            ("sent", row.sent_lsn),
            ("write", said.write),
            ("flush", said.flush),
            ("replay", said.replay),
        )
        lsns += [((row.name, name), int(lsn) or None) for name, lsn in known]
        lags += [((row.name, name), lag) for (name, _), lag in zip(known[1:], row.lags_s, strict=True)]
    yield _family(metrics.RELAY_LSN, lsns)
    yield _family(metrics.RELAY_LAG, lags)


def _objects(vitals: Vitals) -> Iterator[Metric]:
    replica, objects = vitals.replica, vitals.objects()
    counts = dict.fromkeys(_RESIDENCES, 0)
    for report in objects:
        counts[report.residence] += 1
    yield _family(metrics.OBJECTS, [((replica, residence), n) for residence, n in counts.items()])
    rows = {
        "memory": sum(o.dml_memory for o in objects),
        "persistence": sum(o.dml_persistence for o in objects),
    }
    changes = {
        "memory": sum(o.ddl_memory for o in objects),
        "persistence": sum(o.ddl_persistence for o in objects),
    }
    yield _family(metrics.REPLAYED_DML, [((replica, store), n) for store, n in rows.items()])
    yield _family(metrics.REPLAYED_DDL, [((replica, store), n) for store, n in changes.items()])
    if not vitals.memory_on:
        return
    for metric, total in (
        (metrics.MEMORY_BYTES, sum(report.bytes or 0 for report in objects)),
        (metrics.MEMORY_ROWS, sum(report.rows or 0 for report in objects)),
        (metrics.LOADS, sum(report.loads for report in objects)),
        (metrics.EVICTIONS, sum(report.evictions for report in objects)),
        (metrics.HITS, sum(report.hits for report in objects)),
        (metrics.MERGES, sum(report.merges for report in objects)),
        (metrics.MERGE_SECONDS, sum(report.merge_s for report in objects)),
    ):
        yield _family(metric, [((replica,), total)])
    held = sorted((o for o in objects if o.bytes is not None), key=lambda o: o.bytes or 0, reverse=True)
    yield _family(
        metrics.OBJECT_BYTES,
        [((replica, o.schemaname, o.relname), o.bytes) for o in held[:_MOST_OBJECTS]],
    )


def _family(metric: metrics.Metric, samples: list[Sample]) -> Metric:
    family: GaugeMetricFamily | CounterMetricFamily
    if metric.kind is Kind.COUNTER:
        family = CounterMetricFamily(metric.name.removesuffix("_total"), metric.help, labels=metric.labels)
    else:
        family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in samples:
        if value is not None:
            family.add_metric(labels, value)
    return family


def _histogram(metric: metrics.Metric, samples: list[tuple[tuple[str, ...], Distribution]]) -> Metric:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, found in samples:
        buckets = [
            (str(bound), float(count)) for bound, count in zip(found.bounds_s, found.counts, strict=True)
        ]
        family.add_metric(labels, [*buckets, ("+Inf", float(found.count))], found.sum_s)
    return family
