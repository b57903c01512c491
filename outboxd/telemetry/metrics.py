"""Metrics: what a source counts and shows. `docs/metrics.md` explains each for whoever watches outboxd."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation

from outboxd.model import Status

BUCKETS: Final = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0,
)  # fmt: skip
"""Upper bounds of the histograms' buckets, in seconds: 1 ms to 10 min, closest together around a poll interval."""

LATENCY_SAMPLES: Final = 4
"""How many events of a batch are worth a latency each; more would cost time and tell nothing."""

MAX_VALUES: Final = 100
"""How many codes, reasons and workers a source may name: another dispatcher's error texts must not grow the page."""

EVENTS: Final = "{event}"


class Instruments(NamedTuple):
    """The counters and histograms that all sources of a process share."""

    processed: Counter
    published: Counter
    failed: Counter
    retried: Counter
    held: Counter
    dead_lettered: Counter
    duplicates_suspected: Counter
    worker_failures: Counter
    processing_duration: Histogram
    latency: Histogram

    @classmethod
    def of(cls, meter: Meter) -> "Instruments":
        """Creates them."""
        return cls(
            processed=meter.create_counter("outbox.events.processed", EVENTS, "Events read and settled, however"),
            published=meter.create_counter("outbox.events.published", EVENTS, "Events the sink acknowledged"),
            failed=meter.create_counter(
                "outbox.events.failed", EVENTS, "Deliveries refused for the event's own sake, by code"
            ),
            retried=meter.create_counter("outbox.events.retried", EVENTS, "Failed events put back for another attempt"),
            held=meter.create_counter(
                "outbox.events.held", EVENTS, "Events put back because an earlier one of their aggregate waits"
            ),
            dead_lettered=meter.create_counter(
                "outbox.events.dead_lettered", EVENTS, "Events moved to the dead letters, by reason"
            ),
            duplicates_suspected=meter.create_counter(
                "outbox.events.duplicates_suspected", EVENTS, "Events sent again that may have arrived before"
            ),
            worker_failures=meter.create_counter(
                "outbox.worker.failures", "{failure}", "Errors that stopped a worker until its restart, by worker"
            ),
            processing_duration=meter.create_histogram(
                "outbox.processing.duration",
                "s",
                "Time from reading a batch to having settled it",
                explicit_bucket_boundaries_advisory=BUCKETS,
            ),
            latency=meter.create_histogram(
                "outbox.delivery.latency",
                "s",
                "Time from an event's commit to its acknowledgement, sampled",
                explicit_bucket_boundaries_advisory=BUCKETS,
            ),
        )


@dataclass(slots=True)
class Gauges:
    """The last known state of a source. None is not exposed: better no value than an invented one."""

    attributes: dict[str, str]
    queue: Mapping[Status, int] = field(default_factory=dict)
    oldest_age: float | None = None
    lanes: int = 0
    in_flight_events: int = 0
    in_flight_bytes: int = 0
    paused: str | None = None
    topics_paused: Mapping[str, int] = field(default_factory=dict)
    held_aggregates: int = 0
    doorbell: int | None = None
    doorbell_rings: int = 0
    """Not a counter of the SDK: with a doorbell this is counted as often as there are commits."""

    def queue_sizes(self) -> Iterator[Observation]:
        """One observation per undelivered status, once there was a sample."""
        for status, count in self.queue.items():
            yield Observation(count, {**self.attributes, "status": status.name.lower()})

    def oldest_ages(self) -> Iterator[Observation]:
        """At most one observation."""
        if self.oldest_age is not None:
            yield Observation(self.oldest_age, self.attributes)

    def doorbells(self) -> Iterator[Observation]:
        """At most one observation: none where there is no doorbell."""
        if self.doorbell is not None:
            yield Observation(self.doorbell, self.attributes)

    def rings(self) -> Iterator[Observation]:
        """At most one observation."""
        if self.doorbell is not None:
            yield Observation(self.doorbell_rings, self.attributes)

    def pauses(self) -> Iterator[Observation]:
        """1 with the cause, or 0 without one."""
        if self.paused is None:
            yield Observation(0, self.attributes)
        else:
            yield Observation(1, {**self.attributes, "cause": self.paused})

    def topic_pauses(self) -> Iterator[Observation]:
        """One observation per cause."""
        for cause, topics in self.topics_paused.items():
            yield Observation(topics, {**self.attributes, "cause": cause})
        if not self.topics_paused:
            yield Observation(0, self.attributes)


class Metrics:
    """What one source counts. Cheap enough for a call per batch; nothing here is meant to be called per event."""

    def __init__(self, source: str, instruments: Instruments) -> None:
        self._instruments = instruments
        self._attributes = {"source": source}
        self._by_label: dict[tuple[str, str], dict[str, str]] = {}
        self.gauges = Gauges(self._attributes)
        # A counter that starts at 0 lets Prometheus see the first increase.
        for counter in (
            instruments.processed,
            instruments.published,
            instruments.retried,
            instruments.held,
            instruments.duplicates_suspected,
        ):
            counter.add(0, self._attributes)

    # --- counters ---------------------------------------------------------------------------------------------------

    def processed(self, events: int) -> None:
        """Events of a batch that was settled, whatever became of them."""
        self._instruments.processed.add(events, self._attributes)

    def published(self, events: int) -> None:
        """Events that the sink acknowledged."""
        self._instruments.published.add(events, self._attributes)

    def failed(self, events: int, code: str) -> None:
        """Events that the sink refused for their own sake; `code` is the failure's."""
        self._instruments.failed.add(events, self._with("code", code))

    def retried(self, events: int) -> None:
        """Failed events that get another attempt."""
        self._instruments.retried.add(events, self._attributes)

    def held(self, events: int) -> None:
        """Events that wait for an earlier one of their aggregate."""
        self._instruments.held.add(events, self._attributes)

    def dead_lettered(self, events: int, reason: str) -> None:
        """Events moved to the dead letters; `reason` is the failure's code."""
        self._instruments.dead_lettered.add(events, self._with("reason", reason))

    def duplicates_suspected(self, events: int) -> None:
        """Events sent again although they may have arrived: after a crash or an unknown outcome."""
        self._instruments.duplicates_suspected.add(events, self._attributes)

    def worker_failed(self, worker: str) -> None:
        """A worker raised and is restarted."""
        self._instruments.worker_failures.add(1, self._with("worker", worker))

    def doorbell_rang(self) -> None:
        """The doorbell woke the relay."""
        self.gauges.doorbell_rings += 1

    # --- times ------------------------------------------------------------------------------------------------------

    def processing_duration(self, seconds: float) -> None:
        """From reading a batch to having settled it."""
        self._instruments.processing_duration.record(seconds, self._attributes)

    def latency(self, seconds: float) -> None:
        """From one event's commit to its acknowledgement; for at most LATENCY_SAMPLES events of a batch."""
        self._instruments.latency.record(seconds, self._attributes)

    # --- gauges -----------------------------------------------------------------------------------------------------

    def queue_size(self, counts: Mapping[Status, int]) -> None:
        """Undelivered events by status; a status that is missing has none."""
        waiting = (Status.NEW, Status.RETRY, Status.ERROR, Status.PROCESSING)
        self.gauges.queue = {status: counts.get(status, 0) for status in waiting}

    def oldest_age(self, seconds: float) -> None:
        """Age of the oldest undelivered event; 0 when there is none."""
        self.gauges.oldest_age = seconds

    def lanes_owned(self, lanes: int) -> None:
        """Lanes that this instance owns now."""
        self.gauges.lanes = lanes

    def in_flight(self, events: int, size: int) -> None:
        """Events read and not yet settled, and the bytes of their payloads."""
        self.gauges.in_flight_events = events
        self.gauges.in_flight_bytes = size

    def paused(self, cause: str | None) -> None:
        """Delivery pauses because of `cause` (a failure's code), or goes on (None)."""
        self.gauges.paused = cause

    def topics_paused(self, topics: Mapping[str, int]) -> None:
        """How many topics are paused, by cause."""
        self.gauges.topics_paused = dict(topics)

    def doorbell_connected(self, connected: bool) -> None:
        """Whether the doorbell rings."""
        self.gauges.doorbell = int(connected)

    def held_aggregates(self, aggregates: int) -> None:
        """How many aggregates wait for an event of theirs, as far as this instance knows."""
        self.gauges.held_aggregates = aggregates

    def _with(self, key: str, value: str) -> dict[str, str]:
        """The source's attributes and one more, built once. Past MAX_VALUES of them all others are "other"."""
        known = self._by_label.get((key, value))
        if known is None:
            if len(self._by_label) >= MAX_VALUES:
                return {**self._attributes, key: "other"}
            known = self._by_label[key, value] = {**self._attributes, key: value}
        return known


def observe(meter: Meter, gauges: Callable[[], Iterable[Gauges]]) -> None:
    """Creates the gauges. They are read when somebody asks, also from another thread, out of what `gauges` returns."""

    def reading(observations: Callable[[Gauges], Iterable[Observation]]) -> Callable[..., Iterator[Observation]]:
        def read(_: CallbackOptions) -> Iterator[Observation]:
            for source in gauges():
                yield from observations(source)

        return read

    def create(name: str, unit: str, description: str, observations: Callable[[Gauges], Iterable[Observation]]) -> None:
        meter.create_observable_gauge(name, [reading(observations)], unit, description)

    rings = "Times that the doorbell woke the relay"
    meter.create_observable_counter("outbox.doorbell.rings", [reading(Gauges.rings)], "{ring}", rings)

    create("outbox.doorbell.connected", "", "1 while the doorbell would ring; else 0", Gauges.doorbells)
    create("outbox.queue.size", EVENTS, "Undelivered events by status, counted up to a limit", Gauges.queue_sizes)
    create("outbox.oldest.age", "s", "Age of the oldest undelivered event", Gauges.oldest_ages)
    create("outbox.delivery.paused", "", "1 while delivery pauses, with the cause; else 0", Gauges.pauses)
    create(
        "outbox.topics.paused", "{topic}", "Topics that are paused while others go on, by cause", Gauges.topic_pauses
    )
    create(
        "outbox.aggregates.held",
        "{aggregate}",
        "Aggregates whose next event waits for a retry, or for a dead letter that holds",
        lambda g: [Observation(g.held_aggregates, g.attributes)],
    )
    create(
        "outbox.lanes.owned", "{lane}", "Lanes that this instance owns", lambda g: [Observation(g.lanes, g.attributes)]
    )
    create(
        "outbox.in_flight.events",
        EVENTS,
        "Events read and not yet settled",
        lambda g: [Observation(g.in_flight_events, g.attributes)],
    )
    create(
        "outbox.in_flight.bytes",
        "By",
        "Payload bytes read and not yet settled",
        lambda g: [Observation(g.in_flight_bytes, g.attributes)],
    )
