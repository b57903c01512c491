"""When the sink is in trouble, delivery pauses; single events probe whether it is over. Pure."""

from dataclasses import dataclass, field

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
    _probe_at: float = 0.0

    def trip(self, cause: Failure, now: float) -> bool:
        """The sink is in trouble. Returns whether that is news."""
        news = self.cause is None or self.cause.code != cause.code
        if self.cause is None:
            self.opened_at = now
        self.cause = cause
        self._failures += 1
        self._probe_at = now + self.backoff.delay(self._failures)
        return news

    def mend(self) -> bool:
        """The sink delivered. Returns whether that is news."""
        news = self.cause is not None
        self.cause, self._failures = None, 0
        return news

    def wait(self, now: float) -> float:
        """Seconds until the next probe; 0 while closed."""
        return max(0.0, self._probe_at - now) if self.cause else 0.0
