"""Writing what became of a batch."""

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from outboxd.model import Event, Status


class Rejection(NamedTuple):
    """A group of events that leave the way to `sent` together."""

    status: Status
    """RETRY or ERROR."""
    events: Sequence[Event]
    attempt_delta: int
    delay: float
    """Seconds until due (RETRY)."""
    last_error: str | None
    """None leaves the column as it is (held events)."""


class Hold(NamedTuple):
    """Events that wait for `predecessor`, an event of their aggregate, and become due when it does."""

    predecessor: int
    events: Sequence[Event]


class Settler(Protocol):
    """Writes outcomes. Each method may be repeated: a row that is no longer in the expected status is left alone.

    `asked_at` is when the read of the events began, by `time.monotonic`. Since then the database may have become
    another, which has lost these events and given their ids again: such a row is left alone, too.
    """

    async def sent(self, events: Sequence[Event], asked_at: float) -> int:
        """Marks as sent (or deletes); needs no lease, an acknowledgement is a fact. Returns the rows changed."""

    async def reject(
        self, instance: str, rejections: Sequence[Rejection], holds: Sequence[Hold], asked_at: float
    ) -> None:
        """Writes retries, errors and holds in one transaction, fenced: raises LeaseLostError and writes nothing."""

    async def mark_suspects(self, instance: str, events: Sequence[Event], alone: Event | None) -> None:
        """Counts an attempt before events that may have killed their owner are sent again. Fenced."""

    async def unmark_suspects(self, instance: str, events: Sequence[Event]) -> None:
        """Takes the attempt back that the events carry: they were not delivered, and their owner lives. Fenced."""

    async def clear_suspects(self, instance: str, lanes: Collection[int]) -> None:
        """The first batch of these lanes went through: their next crash starts from nothing. Fenced."""
