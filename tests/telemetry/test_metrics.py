"""Metrics: what a source counts is what the page shows."""

from collections.abc import Callable, Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from outboxd.model import Status
from outboxd.telemetry.exposition import Telemetry
from outboxd.telemetry.metrics import MAX_VALUES, Metrics

Labels = tuple[tuple[str, str], ...]


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    telemetry = Telemetry("test")
    yield telemetry
    telemetry.shutdown()


def samples(telemetry: Telemetry) -> dict[tuple[str, Labels], float]:
    page, _ = telemetry.render()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


@pytest.mark.parametrize(
    ("count", "name", "labels"),
    [
        (lambda m: m.processed(7), "outbox_events_processed_total", {}),
        (lambda m: m.published(7), "outbox_events_published_total", {}),
        (lambda m: m.failed(7, "bad"), "outbox_events_failed_total", {"code": "bad"}),
        (lambda m: m.retried(7), "outbox_events_retried_total", {}),
        (lambda m: m.held(7), "outbox_events_held_total", {}),
        (lambda m: m.dead_lettered(7, "bad"), "outbox_events_dead_lettered_total", {"reason": "bad"}),
        (lambda m: m.duplicates_suspected(7), "outbox_events_duplicates_suspected_total", {}),
        (lambda m: [m.worker_failed("relay") for _ in range(7)], "outbox_worker_failures_total", {"worker": "relay"}),
        (
            lambda m: [m.doorbell_connected(True), *(m.doorbell_rang() for _ in range(7))],
            "outbox_doorbell_rings_total",
            {},
        ),
        (lambda m: m.processing_duration(7.0), "outbox_processing_duration_seconds_sum", {}),
        (lambda m: m.latency(7.0), "outbox_delivery_latency_seconds_sum", {}),
    ],
)
def test_counts_and_times_add_up_by_source(
    telemetry: Telemetry, count: Callable[[Metrics], object], name: str, labels: dict[str, str]
) -> None:
    """What a source counts twice is shown as the sum, under its name; another source's counts stay apart."""
    count(telemetry.source("orders"))
    count(telemetry.source("orders"))
    count(telemetry.source("billing"))
    found = {labels: value for (found, labels), value in samples(telemetry).items() if found == name}
    assert found == {
        tuple(sorted({"source": "orders", **labels}.items())): 14.0,
        tuple(sorted({"source": "billing", **labels}.items())): 7.0,
    }


def test_counters_start_at_zero(telemetry: Telemetry) -> None:
    """A source that has done nothing shows zeros, so that the first increase is seen as one."""
    telemetry.source("orders")
    assert samples(telemetry)["outbox_events_published_total", (("source", "orders"),)] == 0.0


def test_gauges_show_the_last_state(telemetry: Telemetry) -> None:
    """A gauge shows what was set last; undelivered statuses that a sample does not name have no rows."""
    metrics = telemetry.source("orders")
    metrics.queue_size({Status.NEW: 9, Status.RETRY: 1})
    metrics.queue_size({Status.NEW: 3})
    metrics.oldest_age(1.5)
    metrics.lanes_owned(64)
    metrics.in_flight(10, 2000)
    seen = samples(telemetry)
    source = ("source", "orders")
    assert {status: seen["outbox_queue_size", (source, ("status", status))] for status in ("new", "retry")} == {
        "new": 3,
        "retry": 0,
    }
    assert seen["outbox_oldest_age_seconds", (source,)] == 1.5
    assert seen["outbox_lanes_owned", (source,)] == 64
    assert seen["outbox_in_flight_events", (source,)] == 10
    assert seen["outbox_in_flight_bytes", (source,)] == 2000


def test_what_was_never_sampled_is_not_shown(telemetry: Telemetry) -> None:
    """Before the first sample there is no queue size and no age, rather than a zero that nobody has counted."""
    telemetry.source("orders")
    names = {name for name, _ in samples(telemetry)}
    assert not names & {"outbox_queue_size", "outbox_oldest_age_seconds"}


def test_a_doorbell_is_shown_where_there_is_one(telemetry: Telemetry) -> None:
    """1 while it would ring, 0 while it would not."""
    with_one, _ = telemetry.source("orders"), telemetry.source("billing")

    def connected() -> dict[Labels, float]:
        return {labels: v for (name, labels), v in samples(telemetry).items() if name == "outbox_doorbell_connected"}

    with_one.doorbell_connected(True)
    assert connected() == {(("source", "orders"),): 1.0}
    with_one.doorbell_connected(False)
    assert connected() == {(("source", "orders"),): 0.0}


def test_a_pause_shows_its_cause_and_only_the_last(telemetry: Telemetry) -> None:
    """While delivery pauses there is one series, 1 with the cause; afterwards one that is 0."""
    metrics = telemetry.source("orders")

    def paused() -> dict[Labels, float]:
        found = samples(telemetry).items()
        return {labels: value for (name, labels), value in found if name.endswith("delivery_paused")}

    metrics.paused("outage")
    metrics.paused("authorization")
    assert paused() == {(("cause", "authorization"), ("source", "orders")): 1.0}
    metrics.paused(None)
    assert paused() == {(("source", "orders"),): 0.0}


def test_foreign_reasons_do_not_grow_the_page(telemetry: Telemetry) -> None:
    """However many reasons there are, the page names a bounded number of them and still counts every event."""
    metrics = telemetry.source("orders")
    for number in range(10 * MAX_VALUES):
        metrics.dead_lettered(1, f"reason {number}")
    series = {labels: v for (name, labels), v in samples(telemetry).items() if "dead_lettered" in name}
    assert len(series) == MAX_VALUES + 1
    assert sum(series.values()) == 10 * MAX_VALUES


@pytest.mark.parametrize("name", ["outbox_processing_duration_seconds", "outbox_delivery_latency_seconds"])
def test_buckets_reach_from_a_millisecond_to_ten_minutes(telemetry: Telemetry, name: str) -> None:
    """A histogram tells 1 ms from 2 ms, and 5 min from 10 min."""
    metrics = telemetry.source("orders")
    for seconds in (0.0009, 0.0019, 299.0, 599.0, 601.0):
        metrics.latency(seconds)
        metrics.processing_duration(seconds)
    seen = samples(telemetry)
    bounds = ("0.001", "0.002", "300.0", "600.0", "+Inf")
    assert [seen[f"{name}_bucket", (("le", le), ("source", "orders"))] for le in bounds] == [1, 2, 3, 4, 5]
