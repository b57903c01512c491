"""What there is to do, and how much of it."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from outboxd.model import Status


class Sighting(NamedTuple):
    """What there is to do in some lanes."""

    new: bool
    """There are events to deliver."""
    due: bool
    """There are due retries."""
    held: bool
    """There are events held behind a dead letter."""
    failed: bool
    """There are rows in error."""


class Lookout(Protocol):
    """Asks several questions at once, so that an idle daemon costs little."""

    async def look(self, lanes: Sequence[int]) -> Sighting:
        """What there is to do in these lanes, which are at least one."""


class QueueSizes(NamedTuple):
    """A sample of the backlog of some lanes."""

    counts: dict[Status, int]
    """Rows by undelivered status, counted up to a limit."""
    oldest_age: float
    """Seconds since the oldest undelivered row was written; 0 when there is none."""


class Sampler(Protocol):
    """Reads gauges."""

    async def sample(self, lanes: Sequence[int]) -> QueueSizes:
        """Sizes and ages over the given lanes."""
