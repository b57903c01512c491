"""The hold book: which aggregates must wait, lane by lane. Pure.

An event is held while a row of its aggregate with a smaller id is in retry (or in processing by another dispatcher).
The book is a copy of what the table says. It is compared with the table by signature before every batch, so rows that
an application, another dispatcher or an operator wrote are never missed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from outboxd.model import Event
from outboxd.ports import Blocked, LaneSignature

NOTHING: Final = LaneSignature()
"""Of a lane in which nothing blocks."""


@dataclass(slots=True)
class _Lane:
    signature: LaneSignature = NOTHING
    first: dict[str, int] = field(default_factory=dict)
    """Aggregate to the smallest id among its blocking rows."""


class HoldBook:
    """The blocked aggregates of the owned lanes."""

    def __init__(self) -> None:
        self._lanes: dict[int, _Lane] = {}

    def stale(self, lane: int, signature: LaneSignature) -> bool:
        """Whether the table says something else of this lane than the book does."""
        known = self._lanes.get(lane)
        return signature != (known.signature if known else NOTHING)

    def load(self, lane: int, rows: Iterable[Blocked]) -> None:
        """Takes over what the table says of a lane."""
        self.forget([lane])
        for row in rows:
            self._block(lane, row.aggregate_id, row.id)

    def forget(self, lanes: Iterable[int]) -> None:
        """Drops the copy; the next comparison loads it again."""
        for lane in lanes:
            self._lanes.pop(lane, None)

    def add(self, events: Iterable[Event]) -> None:
        """These events were just written as retry."""
        for event in events:
            self._block(event.lane, event.aggregate_id, event.id)

    def _block(self, lane: int, aggregate_id: str, event_id: int) -> None:
        entry = self._lanes.setdefault(lane, _Lane())
        entry.signature = entry.signature.plus(event_id)
        entry.first[aggregate_id] = min(event_id, entry.first.get(aggregate_id, event_id))

    def predecessor(self, event: Event) -> int | None:
        """The id of the row that holds this event back, or None."""
        entry = self._lanes.get(event.lane)
        if entry is None:
            return None
        first = entry.first.get(event.aggregate_id)
        return first if first is not None and first < event.id else None

    def __len__(self) -> int:
        """How many aggregates are blocked."""
        return sum(len(entry.first) for entry in self._lanes.values())
