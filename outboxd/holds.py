"""The hold book: which aggregates must wait, lane by lane. Pure.

An event is held while a row of its aggregate with a smaller id is in retry (or in processing by another dispatcher),
or is a dead letter that holds. The book is a copy of what the table says. It is compared with the table by signature
before every batch, so rows that an application, another dispatcher or an operator wrote are never missed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from outboxd.model import Event
from outboxd.order import OrderPolicy
from outboxd.ports import Blocked, LaneSignature

NOTHING: Final = LaneSignature()
"""Of a lane in which nothing blocks."""


@dataclass(slots=True)
class _Lane:
    signature: LaneSignature = NOTHING
    first: dict[str, int] = field(default_factory=dict)
    """Aggregate to the smallest id among its blocking rows."""


class HoldBook:
    """The blocked aggregates of the owned lanes. `policy` says which rows in error hold, as dead letters to be."""

    def __init__(self, policy: OrderPolicy | None = None) -> None:
        self._policy = policy or OrderPolicy()
        self._lanes: dict[int, _Lane] = {}

    def known(self, lanes: Iterable[int]) -> dict[int, LaneSignature]:
        """Those of the lanes of which there is a copy, with its signature."""
        return {lane: self._lanes[lane].signature for lane in lanes if lane in self._lanes}

    def stale(self, lanes: Iterable[int], signatures: Mapping[int, LaneSignature]) -> bool:
        """Whether the table says something else of one of the lanes than the book does; a lane that is not among the
        signatures has nothing that blocks."""
        return any(
            lane not in self._lanes or self._lanes[lane].signature != signatures.get(lane, NOTHING) for lane in lanes
        )

    def load(self, lane: int, rows: Iterable[Blocked]) -> None:
        """Takes over what the table says of a lane."""
        self._lanes[lane] = _Lane()
        for row in rows:
            blocks = row.failed is None or self._policy.holds(*row.failed)
            self._note(lane, row.aggregate_id if blocks else None, row.id)

    def forget(self, lanes: Iterable[int]) -> None:
        """Drops the copy; the next read loads it again."""
        for lane in lanes:
            self._lanes.pop(lane, None)

    def add(self, events: Iterable[Event]) -> None:
        """These events were just written as retry."""
        for event in events:
            if event.lane in self._lanes:
                self._note(event.lane, event.aggregate_id, event.id)

    def add_failed(self, events: Iterable[Event]) -> None:
        """These events were just written as error. A dead letter that comes and is requeued between two reads must
        not go unnoticed."""
        if not self._policy.may_hold:
            return
        for event in events:
            if event.lane in self._lanes:
                holds = self._policy.holds(event.topic, event.event_type)
                self._note(event.lane, event.aggregate_id if holds else None, event.id)

    def _note(self, lane: int, aggregate_id: str | None, event_id: int) -> None:
        entry = self._lanes[lane]
        entry.signature = entry.signature.plus(event_id)
        if aggregate_id is not None:
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
