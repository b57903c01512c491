"""When the sink is in trouble, delivery pauses; single events probe whether it is over. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from outboxd.backoff import Backoff
from outboxd.errors import Failure


@dataclass(slots=True)
class Circuit:
    """Closed: deliver. Open: wait, then probe with one event; the waits grow. Times in seconds, of any one clock."""

    backoff: Backoff = field(default_factory=lambda: Backoff(base=0.25, max=5.0, jitter=0.2))
    cause: Failure | None = None
    """Why it is open; None while it is closed."""
    opened_at: float = 0.0
    _failures: int = 0
    probe_at: float = 0.0
    """When it is due to be probed, while it is open."""

    def trip(self, cause: Failure, now: float) -> bool:
        """The sink is in trouble. Returns whether that is news."""
        news = self.cause is None or self.cause.code != cause.code
        if self.cause is None:
            self.opened_at = now
        self.cause = cause
        self._failures += 1
        self.probe_at = now + self.backoff.delay(self._failures)
        return news

    def mend(self) -> bool:
        """The sink delivered. Returns whether that is news."""
        news = self.cause is not None
        self.cause, self._failures = None, 0
        return news

    def wait(self, now: float) -> float:
        """Seconds until the next probe; 0 while closed."""
        return max(0.0, self.probe_at - now) if self.cause else 0.0


PROBE_INTERVAL: Final = 0.25
"""Seconds between two probes of topics, however many are paused: each looks through all that waits."""


class TopicCircuits:
    """The circuits of single topics, as the events name them; only open ones are kept."""

    def __init__(self) -> None:
        self._open: dict[str, Circuit] = {}
        self._probed_at = float("-inf")
        self._probed: str | None = None

    @property
    def paused(self) -> Mapping[str, Circuit]:
        """The open ones."""
        return self._open

    def trip(self, causes: Mapping[str, Failure], now: float) -> dict[str, Failure]:
        """These topics are in trouble. Returns those of which it is news."""
        return {
            topic: cause for topic, cause in causes.items() if self._open.setdefault(topic, Circuit()).trip(cause, now)
        }

    def mend(self, topics: Iterable[str]) -> dict[str, Circuit]:
        """These topics were delivered to. Returns the circuits that closed."""
        if not self._open:
            return {}
        return {topic: self._open.pop(topic) for topic in set(topics) & self._open.keys()}

    def due(self, now: float) -> str | None:
        """The topic to probe now: the one that waited longest, if its time has come. It is not due again soon."""
        if not self._open or now - self._probed_at < PROBE_INTERVAL:
            return None
        topic = min(self._open, key=lambda topic: self._open[topic].probe_at)
        circuit = self._open[topic]
        if circuit.cause is None or circuit.wait(now) > 0:
            return None
        circuit.trip(circuit.cause, now)
        self._probed_at, self._probed = now, topic
        return topic

    def hurry(self, now: float) -> None:
        """The topic that was probed last is due again now."""
        circuit = self._open.get(self._probed) if self._probed is not None else None
        if circuit is not None:
            circuit.probe_at = now
