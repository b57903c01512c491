"""A batch: events of free lanes, which stay occupied until every one of the events is settled."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from outboxd.errors import Failure
from outboxd.model import Event


def payload_size(events: Iterable[Event]) -> int:
    """Size of the payloads and headers that are loaded. Headers count twice: a sink makes values of them."""
    return sum([len(event.payload or b"") + 2 * len(event.headers or b"") for event in events])


@dataclass(slots=True)
class Batch:
    """What one read yielded, sorted by what is to be done with it."""

    instance: str
    """Under whose lease it was read."""
    lanes: frozenset[int]
    asked_at: float
    """When its read began, by the event loop's clock."""
    read_at: float
    """By the event loop's clock; the events' ages were measured then."""
    events: list[Event] = field(default_factory=list)
    """For the sink, in order."""
    held: list[tuple[Event, int]] = field(default_factory=list)
    """Behind an event, given by its id, that is not delivered."""
    failed: list[tuple[Event, Failure]] = field(default_factory=list)
    """Refused before the sink saw them."""
    cut: bool = False
    """There is more: it ends at a limit of rows or bytes."""
    suspect: bool = False
    """The first batch of lanes whose last owner died."""
    exclusive: bool = False
    """Nothing else may be in flight with it: it may hold the event that kills."""
    probe: bool = False
    """Of one event, to see whether its topic can be delivered to again."""
    bytes: int = 0
    """Size of the payloads in memory."""
    exhausted: frozenset[int] = frozenset()
    """Lanes of which this batch, or the read before it, has everything."""

    @property
    def rows_by_lane(self) -> Counter[int]:
        """How many rows of each lane the batch settles."""
        rows = Counter(event.lane for event in self.events)
        rows.update(event.lane for event, _ in self.held)
        rows.update(event.lane for event, _ in self.failed)
        return rows
