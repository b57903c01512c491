"""What the application knows, what the consumer saw, and what the two say of each other. Pure."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from outboxd.demo.plan import Flaw


class Entry(NamedTuple):
    """An event whose COMMIT the database has answered."""

    aggregate_id: str
    version: int
    """Its place among the events of its aggregate."""
    payload: Any
    committed_at: float
    """Monotonic seconds, when the answer came."""
    flaw: Flaw | None


class Arrival(NamedTuple):
    """A message as the consumer got it."""

    event_id: str
    key: str
    value: bytes
    at: float
    """Monotonic seconds."""


class DeadLetter(NamedTuple):
    """A row of the dead letters."""

    event_id: str
    reason: str
    error: str


@dataclass
class Ledger:
    """What the application did, by event id."""

    committed: dict[str, Entry] = field(default_factory=dict)
    rolled_back: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Account:
    """What became of every event."""

    committed: int
    rolled_back: int
    delivered: int
    """Different events that arrived."""
    missing: int
    """Committed, but neither delivered nor, if it has a flaw, a dead letter."""
    out_of_order: int
    """Arrived for the first time behind a younger event of their aggregate."""
    changed: int
    """Key or payload is not what was committed."""
    phantoms: int
    """Delivered, though they were never committed."""
    duplicates: int
    dead_letters: Mapping[str, int]
    """By reason."""
    errors: Mapping[str, str]
    """An example of the text, by reason."""
    latencies: tuple[float, ...]
    """Seconds from the answer to COMMIT to the consumer, sorted."""

    @property
    def holds(self) -> bool:
        """Nothing is lost, moved, altered or made up; duplicates are allowed."""
        return not (self.missing or self.out_of_order or self.changed or self.phantoms)

    def latency(self, share: float) -> float | None:
        """Seconds within which this share of the events arrived; None when none did."""
        if not self.latencies:
            return None
        return self.latencies[min(len(self.latencies) - 1, int(share * len(self.latencies)))]


def account(ledger: Ledger, arrivals: Iterable[Arrival], dead_letters: Iterable[DeadLetter]) -> Account:
    """Holds what arrived, in the order of its arrival, and the dead letters against the ledger."""
    arrivals, dead_letters = list(arrivals), list(dead_letters)
    first: dict[str, Arrival] = {}
    for arrival in arrivals:
        first.setdefault(arrival.event_id, arrival)
    known = {event_id: ledger.committed[event_id] for event_id in first if event_id in ledger.committed}
    dead = {letter.event_id for letter in dead_letters}
    return Account(
        committed=len(ledger.committed),
        rolled_back=len(ledger.rolled_back),
        delivered=len(known),
        missing=sum(
            event_id not in first and not (entry.flaw and event_id in dead)
            for event_id, entry in ledger.committed.items()
        ),
        out_of_order=_out_of_order(known.values()),
        changed=sum(not _same(ledger.committed.get(arrival.event_id), arrival) for arrival in arrivals),
        phantoms=len(first) - len(known),
        duplicates=len(arrivals) - len(first),
        dead_letters=Counter(letter.reason for letter in dead_letters),
        errors={letter.reason: letter.error for letter in dead_letters},
        latencies=tuple(sorted(max(0.0, first[event_id].at - entry.committed_at) for event_id, entry in known.items())),
    )


def _out_of_order(entries: Iterable[Entry]) -> int:
    newest: dict[str, int] = {}
    late = 0
    for entry in entries:
        if entry.version < newest.get(entry.aggregate_id, 0):
            late += 1
        else:
            newest[entry.aggregate_id] = entry.version
    return late


def _same(entry: Entry | None, arrival: Arrival) -> bool:
    """True too of what was never committed: that is counted elsewhere."""
    if entry is None:
        return True
    try:
        return arrival.key == entry.aggregate_id and json.loads(arrival.value) == entry.payload
    except ValueError:
        return False
