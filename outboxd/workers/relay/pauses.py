"""What of delivery pauses, and why: the whole sink, or single topics. Log and metrics hear of each change."""

from collections import Counter
from collections.abc import Iterator, Mapping

from structlog.typing import FilteringBoundLogger

from outboxd.errors import Failure, FailureKind
from outboxd.ports import Report, TopicFilter
from outboxd.telemetry.metrics import Metrics
from outboxd.workers.relay.circuit import Circuit, TopicCircuits


class Pauses:
    """The circuits of a source. Times by any one clock."""

    def __init__(self, metrics: Metrics, log: FilteringBoundLogger) -> None:
        self._whole, self._topics = Circuit(), TopicCircuits()
        self._metrics = metrics
        self._log = log

    @property
    def cause(self) -> Failure | None:
        """Why nothing at all is delivered; None while something is."""
        return self._whole.cause

    @property
    def passable(self) -> TopicFilter:
        """The events that may be sent."""
        return TopicFilter(without=tuple(self._topics.paused))

    def open_circuits(self) -> Iterator[tuple[str | None, Circuit]]:
        """All that are open, the whole sink's (None) first."""
        if self._whole.cause is not None:
            yield None, self._whole
        yield from sorted(self._topics.paused.items())

    def wait(self, now: float) -> float:
        """Seconds until anything may be sent."""
        return self._whole.wait(now)

    def due_topic(self, now: float) -> str | None:
        """A topic to probe now."""
        return self._topics.due(now)

    def hurry(self, now: float) -> None:
        """The last probe met nothing that it could send: the next one is due at once."""
        self._topics.hurry(now)

    def note_empty(self, topic: str, now: float) -> None:
        """No event of this topic is left: somebody took them away, or other instances have their lanes."""
        self._resumed(self._topics.mend([topic]), now)
        self._observe()

    def note(self, report: Report, now: float) -> None:
        """Opens and closes circuits by what a publish told."""
        if report.trouble:
            self.note_trouble(report.trouble, now)
        elif report.delivered or report.paused:
            self.note_reached(now)
        if self._topics.paused:
            delivered = {event.topic for event in report.delivered}
            self._resumed(self._topics.mend(delivered - report.paused.keys()), now)
        for topic, cause in self._topics.trip(report.paused, now).items():
            self._paused(cause, topic=topic)
        self._observe()

    def note_reached(self, now: float) -> None:
        """The sink as a whole is there."""
        if self._whole.mend():
            self._log.info("delivery.resumed", paused_seconds=round(now - self._whole.opened_at, 3))
        self._observe()

    def note_trouble(self, trouble: Failure, now: float) -> None:
        """The whole sink is in trouble."""
        if self._whole.trip(trouble, now):
            self._paused(trouble)
        self._observe()

    def _paused(self, cause: Failure, **fields: str) -> None:
        tell = self._log.error if cause.kind is FailureKind.PAUSE else self._log.warning
        tell("delivery.paused", cause=cause.code, reason=cause.text, **fields)

    def _resumed(self, closed: Mapping[str, Circuit], now: float) -> None:
        for topic, circuit in closed.items():
            self._log.info("delivery.resumed", topic=topic, paused_seconds=round(now - circuit.opened_at, 3))

    def _observe(self) -> None:
        self._metrics.paused(self._whole.cause.code if self._whole.cause else None)
        causes = [circuit.cause for circuit in self._topics.paused.values()]
        self._metrics.topics_paused(Counter(cause.code for cause in causes if cause))
