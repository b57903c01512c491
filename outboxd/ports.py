"""The borders of the workers: what they ask of a store and of a sink. Pure: only types and values."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol
from zlib import crc32

from outboxd.errors import Failure
from outboxd.model import Event, Status

# --- the sink ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Report:
    """What became of the events of one `publish`. Each event of the call stands in exactly one of the lists."""

    delivered: list[Event] = field(default_factory=list)
    failed: list[tuple[Event, Failure]] = field(default_factory=list)
    """Refused for their own sake (kinds PERMANENT and CAPPED)."""
    behind: list[tuple[Event, Event]] = field(default_factory=list)
    """Not sent, because an earlier event of their aggregate (the second of the pair) failed and may succeed later."""
    unsent: list[Event] = field(default_factory=list)
    """Never handed to the broker; nothing is known against them."""
    unknown: list[Event] = field(default_factory=list)
    """Handed over, but no answer came in time: they may or may not have arrived."""
    trouble: Failure | None = None
    """Why events are unsent or unknown, where it concerns the whole sink (kinds OUTAGE, PAUSE, REBUILD)."""
    paused: dict[str, Failure] = field(default_factory=dict)
    """The same where it concerns some topics only: by topic, as the events name it."""


class Sink(Protocol):
    """Where events go. A plug-in provides a class of this shape under the entry-point group `outboxd.sinks`; it is
    called with the source's settings."""

    async def start(self) -> None:
        """Connects. Raises SinkUnavailableError; may be called again after it."""

    async def publish(self, events: Sequence[Event], permitted: Callable[[], bool]) -> Report:
        """Delivers the events, those of one aggregate in the given order, and returns within the sink's deadline.

        `permitted` is asked before each hand-over; when it says no, what is left is unsent.

        Once an event was not delivered, no later event of its aggregate to the same topic is sent in this call,
        unless the failure is permanent and `settings.order.policy` does not hold the aggregate. Calls may overlap;
        they never share an aggregate. Never raises for the broker's sake.
        """

    def refuse(self, event: Event) -> Failure | None:
        """Why an event whose payload is not loaded cannot be sent: for it is too large, judged by `payload_bytes`, or
        has a text that is not UTF-8, as surrogates in it show. None when it may be loaded and sent."""

    async def check(self) -> None:
        """Returns when the sink can be reached; raises SinkUnavailableError with the reason when it cannot."""

    def sever(self) -> None:
        """The lease has ended while the process was frozen: nothing more may leave it. Called from outside of any
        task; what was handed over and has no answer is unknown."""

    async def close(self) -> None:
        """Lets go of everything, within a bounded time, also while the broker is gone."""


# --- the store --------------------------------------------------------------------------------------------------


class Bell(Protocol):
    """What a doorbell tells. Its methods are called in the event loop."""

    def hung(self, row_format: str) -> None:
        """It rings from now on; `row_format`, if it is not ROW, is what keeps it from telling writes apart."""

    def ring(self) -> None:
        """Events may have been written. They can be read now, or in a moment."""

    def lost(self, reason: str) -> None:
        """It does not ring, until it is hung again. Called for each attempt that fails."""


class Doorbell(Protocol):
    """Hears of new events as they are committed. It decides nothing: a ring too few costs a poll interval."""

    def start(self, bell: Bell) -> None:
        """Begins, and begins anew whenever it cannot go on."""

    def stop(self) -> None:
        """Ends it, without waiting."""


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
    """A read, and behind it what stands in the way of its events. (Of no events, nothing is asked.)"""

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

    def watch(self, lanes: Sequence[int], interval: float, found: Callable[[], None]) -> None:
        """Looks for new events every `interval` seconds, and calls `found` once there may be some; that ends it, as
        another watch does."""

    async def load_payloads(self, ids: Sequence[int]) -> dict[int, tuple[bytes | None, bytes | None]]:
        """The payloads and headers of these rows, by id; None for a payload that the database cannot send."""

    async def snapshot(
        self, lanes: Sequence[int], limit: int, topics: TopicFilter, known: Mapping[int, LaneSignature]
    ) -> Snapshot:
        """`read`, the `standing` of all these lanes, and the blocking rows of those whose signature is not `known`;
        all of one moment."""


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


class Grant(NamedTuple):
    """A lane as its owner got it."""

    lane: int
    deaths: int
    """How many of its owners died in a row: what the last can have had in flight is sent with care."""
    alone_id: int | None
    """The event that was alone in its batch when an owner died."""


class LeaseView(NamedTuple):
    """What one heartbeat saw."""

    members: tuple[str, ...]
    """The live instances' ids, sorted."""
    lanes: tuple[Grant, ...]
    """The lanes that the asking instance owns."""
    next_expiry: float | None
    """Seconds until the first of the other instances' leases ends, by the database's clock."""
    expired: bool
    """There are instances whose lease has ended."""


class LeaseStore(Protocol):
    """The tables of instances and lanes."""

    async def register(self, instance: str, name: str | None, ttl: float) -> None:
        """Inserts the instance. Raises LeaseLostError when a live one has this name."""

    async def renew(self, instance: str, ttl: float, report: str) -> None:
        """Extends the lease by `ttl` seconds from now, and leaves a report (a JSON object as text) for operators.
        Raises LeaseLostError once it has ended."""

    async def evict_expired(self, instance: str) -> list[str]:
        """Deletes the rows of expired instances and frees their lanes as suspect, in one transaction."""

    async def take(self, instance: str, count: int) -> None:
        """Takes up to `count` free lanes."""

    async def give_back(self, instance: str, lanes: Collection[int]) -> None:
        """Frees lanes, so that another instance can take them."""

    async def view(self, instance: str) -> LeaseView:
        """The members and this instance's lanes."""

    async def deregister(self, instance: str) -> None:
        """Frees all lanes of the instance and deletes its row, in one transaction."""


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


class DueEvent(NamedTuple):
    """A row in retry whose time has come."""

    id: int
    lane: int
    aggregate_id: str


class StuckEvent(NamedTuple):
    """A row that another dispatcher left in processing."""

    id: int
    attempt_count: int


class HeldEvent(NamedTuple):
    """A row that is held behind a dead letter."""

    id: int
    aggregate_id: str


class UnknownStatus(NamedTuple):
    """A row whose column `status` holds a number that is no status."""

    id: int
    status: int
    attempt_count: int


class Upkeep(Protocol):
    """What the maintenance workers ask for. Chunks: no call touches more rows than its `limit`."""

    async def held_lanes(self, lanes: Sequence[int]) -> list[int]:
        """Those of the lanes that have events held behind a dead letter."""

    async def holding(self, lanes: Sequence[int]) -> dict[int, LaneSignature]:
        """The signature of the dead letters that hold, and of rows in error, by lane."""

    async def holding_rows(self, lane: int) -> list[Blocked]:
        """Those rows."""

    async def held(self, lane: int, after: int, limit: int) -> list[HeldEvent]:
        """The next events of a lane that are held behind a dead letter, by id, behind id `after`."""

    async def release_held(self, instance: str, ids: Sequence[int]) -> None:
        """They are due now. Fenced."""

    async def due_lanes(self, lanes: Sequence[int]) -> list[int]:
        """Those of the lanes that have due retries."""

    async def due(self, lanes: Sequence[int], limit: int) -> list[DueEvent]:
        """Due retries of the lanes, oldest due first within a lane."""

    async def promote(self, instance: str, ids: Sequence[int]) -> None:
        """retry -> new. Fenced."""

    async def undate(self, instance: str, lanes: Sequence[int], limit: int) -> int:
        """Takes the due time off rows that are new, so that they stand in order of id. Fenced. Returns how many."""

    async def stuck_lanes(self, lanes: Sequence[int], age: float) -> list[int]:
        """Those of the lanes that have rows in processing which nobody has touched for `age` seconds."""

    async def stuck(self, lanes: Sequence[int], age: float, limit: int) -> list[StuckEvent]:
        """Rows in processing that nobody has touched for `age` seconds."""

    async def release(self, instance: str, status: Status, ids: Sequence[int], last_error: str) -> None:
        """processing -> new or error, one attempt more. Fenced."""

    async def unknown_status(self, lanes: Sequence[int], limit: int) -> list[UnknownStatus]:
        """Rows of these lanes whose status means nothing."""

    async def give_up(self, instance: str, status: Status, ids: Sequence[int], last_error: str) -> None:
        """Unknown status -> error. Fenced."""

    async def move_dead(
        self, instance: str, lanes: Sequence[int], after: tuple[int, int], limit: int
    ) -> tuple[list[str], int, tuple[int, int] | None]:
        """Moves the next rows in error, behind (lane, id) `after`, to the dead letters in one transaction. Fenced,
        and bounded in bytes too.

        Returns the reasons of what was moved, the number of rows whose copy could not be made, and the (lane, id)
        looked at last, or None when there were none.
        """

    async def expired_sent(self, after: int, age: float, limit: int) -> tuple[list[int], int | None]:
        """Looks at the next `limit` rows behind id `after`: the sent ones older than `age` seconds, and the last id
        looked at, or None when there is nothing old behind it."""

    async def expired_dead(self, after: int, age: float, limit: int) -> tuple[list[int], int | None]:
        """The same for dead letters."""

    async def delete_sent(self, ids: Iterable[int]) -> int:
        """Deletes rows that are still sent."""

    async def delete_dead(self, ids: Iterable[int]) -> int:
        """Deletes dead letters."""


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
