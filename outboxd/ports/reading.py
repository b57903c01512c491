"""Reading batches, with what stands in the way of their events."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol
from zlib import crc32

from outboxd.model import Event


class TopicFilter(NamedTuple):
    """Which events are asked for, by their topics."""

    only: str | None = None
    without: tuple[str, ...] = ()


EVERY_TOPIC: Final = TopicFilter()


class Blocked(NamedTuple):
    """A row that may stand in the way of its aggregate: in retry, in processing by another dispatcher, in error, or
    a dead letter that holds."""

    id: int
    lane: int
    aggregate_id: str
    failed: tuple[str, str] | None
    """Of a row in error, which is no dead letter yet: its topic and event type."""


class LaneSignature(NamedTuple):
    """What a lane's blocking rows are, in numbers that an insert, update or delete among them changes."""

    rows: int = 0
    total: int = 0
    """The sum of their ids."""
    hashes: int = 0
    """The sum of the CRC-32 of their ids, so that {1, 6} is not {2, 5}."""

    def plus(self, event_id: int) -> "LaneSignature":
        """With one row more."""
        return LaneSignature(self.rows + 1, self.total + event_id, self.hashes + crc32(b"%d" % event_id))


class Standing(NamedTuple):
    """What a read must be compared with before its events may be sent."""

    signatures: dict[int, LaneSignature]
    """Of each lane that has blocking rows."""
    cut_lane_dated: bool
    """The lane that the limit cut has rows that are new but carry a due time: `read` sorts them behind the others."""


NOTHING_STANDS: Final = Standing({}, cut_lane_dated=False)


class Found(NamedTuple):
    """A read, and what stood in the way of its events then or later. (Of no events, nothing need be asked.)"""

    events: list[Event]
    standing: Standing


class Snapshot(NamedTuple):
    """A read and all that it must be compared with, as they were at one moment."""

    events: list[Event]
    standing: Standing
    blocked: dict[int, list[Blocked]]
    """All blocking rows of each lane whose signature was not known."""


class EventReader(Protocol):
    """Reads batches, by consistent reads: no locks, no writes."""

    async def read(self, lanes: Sequence[int], limit: int, topics: TopicFilter = EVERY_TOPIC) -> Found:
        """The first `limit` deliverable events of the lanes by (lane, id); large payloads and headers are left out."""

    def watch(self, lanes: Sequence[int], interval: float, found: Callable[[], None], *, seconds: float) -> None:
        """Looks for new events every `interval` for so many seconds, and calls `found` once there may be some; that
        ends it, as another watch does."""

    async def load_payloads(self, ids: Sequence[int]) -> dict[int, tuple[bytes | None, bytes | None]]:
        """The payloads and headers of these rows, by id; None for a payload that the database cannot send."""

    async def snapshot(
        self, lanes: Sequence[int], limit: int, topics: TopicFilter, known: Mapping[int, LaneSignature]
    ) -> Snapshot:
        """`read`, the `standing` of all these lanes, and the blocking rows of those whose signature is not `known`;
        all of one moment."""
