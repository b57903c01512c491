"""A database in memory: what is committed, and what each statement sees and does. It says what `outboxd.store` says.

Statements are methods; each happens at one moment. In which moment, and whether its answer arrives, is decided in
`connection.py`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from zlib import crc32

from outboxd.errors import LeaseLostError
from outboxd.model import Event, Status
from outboxd.order import OrderPolicy
from outboxd.ports import (
    Blocked,
    DueEvent,
    Grant,
    HeldEvent,
    Hold,
    LaneSignature,
    Rejection,
    StuckEvent,
    TopicFilter,
)
from outboxd.store.upkeep import in_front_of_locked

LANES = 4
"""Fewer than in truth, so that instances and aggregates meet more often."""

HELD_UNTIL = 1e18


class Violation(AssertionError):  # noqa: N818 — a broken promise
    """A promise is broken. `promise` says which."""

    def __init__(self, promise: str, text: str) -> None:
        super().__init__(f"{promise}: {text}")
        self.promise = promise


@dataclass(slots=True)
class Row:
    """An event; of the columns, those that decide something."""

    id: int
    aggregate: str
    topic: str
    status: Status = Status.NEW
    due: float | None = None
    attempts: int = 0
    error: str | None = None
    updated_at: float = 0.0
    committed: int = 0
    """The version of the database with which it was committed, or put back by an operator."""
    dead_since: int | None = None
    """The version with which it became an error."""
    holds: bool = False
    """As a dead letter."""

    @property
    def lane(self) -> int:
        return crc32(self.aggregate.encode()) % LANES


@dataclass(slots=True)
class Member:
    """A row of the instances. `locks` counts the transactions that hold it in share mode."""

    expires_at: float
    name: str | None
    locks: int = 0


@dataclass(slots=True)
class Lane:
    """A row of the lanes."""

    owner: str | None = None
    deaths: int = 0
    alone_id: int | None = None


@dataclass(slots=True)
class SimulatedDatabase:
    """All tables. `delivered` tells the truth about an event, for the check of what is settled as sent."""

    clock: Callable[[], float]
    policy: OrderPolicy
    max_attempts: int
    delivered: Callable[[int], bool]
    may_fail: Callable[[int], bool]
    """Whether the broker has refused this event."""
    rows: dict[int, Row] = field(default_factory=dict)
    dead: dict[int, Row] = field(default_factory=dict)
    members: dict[str, Member] = field(default_factory=dict)
    lanes: dict[int, Lane] = field(default_factory=lambda: {lane: Lane() for lane in range(LANES)})
    locked: set[int] = field(default_factory=set)
    """Rows that an operator's transaction holds."""
    version: int = 0
    next_id: int = 1

    def commit(self) -> int:
        """Something has changed."""
        self.version += 1
        return self.version

    # --- the application and the operator

    def insert(self, row: Row) -> None:
        """A transaction of the application commits."""
        row.committed, row.updated_at = self.commit(), self.clock()
        self.rows[row.id] = row

    def requeue(self, event_id: int) -> None:
        """`outboxd deadletters requeue`."""
        row = self.dead.pop(event_id)
        row.status, row.attempts, row.due, row.error = Status.NEW, 0, None, None
        row.holds, row.dead_since, row.committed = False, None, self.commit()
        self.rows[event_id] = row

    def discard(self, event_id: int) -> None:
        """`outboxd deadletters discard`."""
        self.commit()
        del self.dead[event_id]

    # --- reading

    def _of(self, lanes: Collection[int], *statuses: Status) -> list[Row]:
        return [row for row in self.rows.values() if row.status in statuses and row.lane in lanes]

    def read(self, lanes: Collection[int], limit: int, topics: TopicFilter) -> list[Event]:
        """In the order of the index: rows with a due time come behind those without."""
        found = [
            row
            for row in self._of(lanes, Status.NEW)
            if (topics.only is None or row.topic == topics.only) and row.topic not in topics.without
        ]
        found.sort(key=lambda row: (row.lane, row.due is not None, row.due or 0.0, row.id))
        return [_event(row) for row in found[:limit]]

    def _blocking(self, lanes: Collection[int]) -> list[tuple[Row, bool]]:
        statuses = (Status.RETRY, Status.PROCESSING, *((Status.ERROR,) if self.policy.may_hold else ()))
        return [(row, row.status is Status.ERROR) for row in self._of(lanes, *statuses)] + self._holding_dead(lanes)

    def _holding_dead(self, lanes: Collection[int]) -> list[tuple[Row, bool]]:
        return [(row, False) for row in self.dead.values() if row.holds and row.lane in lanes]

    def signatures(self, lanes: Collection[int]) -> dict[int, LaneSignature]:
        """Of what blocks."""
        return _signatures(self._blocking(lanes))

    def dated(self, lane: int) -> bool:
        """Whether a new row of the lane carries a due time."""
        return any(row.due is not None for row in self._of([lane], Status.NEW))

    def blocked(self, lanes: Collection[int]) -> dict[int, list[Blocked]]:
        """What blocks, by lane."""
        found: dict[int, list[Blocked]] = {lane: [] for lane in lanes}
        for row, failed in self._blocking(lanes):
            found[row.lane].append(_blocked(row, failed=failed))
        return found

    # --- settling

    def fence(self, instance: str) -> None:
        """Raises LeaseLostError unless the instance is alive."""
        member = self.members.get(instance)
        if member is None or member.expires_at <= self.clock():
            raise LeaseLostError(f"the lease of {instance} has ended")

    def _change(self, ids: Iterable[int], status: Status) -> list[Row]:
        self.commit()
        found = [self.rows[event_id] for event_id in ids if event_id in self.rows]
        found = [row for row in found if row.status is status]
        for row in found:
            row.updated_at = self.clock()
        return found

    def free(self, ids: Iterable[int]) -> list[int]:
        """The rows that nobody holds."""
        return [event_id for event_id in ids if event_id in self.rows and event_id not in self.locked]

    def sent(self, ids: Sequence[int]) -> int:
        """new -> sent; promise 1 is that it is the truth."""
        changed = self._change(ids, Status.NEW)
        for row in changed:
            if not self.delivered(row.id):
                raise Violation("nothing is lost", f"event {row.id} is settled as sent, and was never delivered")
            row.status, row.due = Status.SENT, None
        return len(changed)

    def reject(self, rejections: Sequence[Rejection], holds: Sequence[Hold]) -> None:
        """new -> retry or error."""
        for rejection in rejections:
            for row in self._change([event.id for event in rejection.events], Status.NEW):
                self._reject(row, rejection)
        for hold in holds:
            due = self._due_of(hold.predecessor)
            if due is not None:
                for row in self._change([event.id for event in hold.events], Status.NEW):
                    row.status, row.due = Status.RETRY, due

    def _reject(self, row: Row, rejection: Rejection) -> None:
        killer = (rejection.last_error or "").startswith("owner_died")
        if rejection.attempt_delta and not killer and not self.may_fail(row.id):
            raise Violation("an outage spends no attempt", f"event {row.id} lost one, and was never refused")
        row.status, row.attempts = rejection.status, row.attempts + rejection.attempt_delta
        row.due, row.error = None, rejection.last_error
        if rejection.status is Status.RETRY:
            row.due = self.clock() + rejection.delay
            return
        row.dead_since = self.version
        if killer and row.attempts < self.max_attempts:
            raise Violation("dead for a reason", f"event {row.id} killed nobody {row.attempts} times")

    def _due_of(self, event_id: int) -> float | None:
        if event_id in self.dead and self.dead[event_id].holds:
            return HELD_UNTIL
        row = self.rows.get(event_id)
        match row.status if row else None:
            case Status.RETRY:
                return row.due if row and row.due is not None else self.clock()
            case Status.PROCESSING:
                return self.clock() + 30.0
            case Status.ERROR if self.policy.may_hold:
                return HELD_UNTIL
        return None

    def mark_suspects(self, instance: str, events: Sequence[Event], alone: Event | None) -> None:
        """One attempt more than the events carry."""
        self._recount(events, 1)
        for lane in {event.lane for event in events}:
            if self.lanes[lane].owner == instance:
                self.lanes[lane].alone_id = alone.id if alone else None

    def unmark_suspects(self, events: Sequence[Event]) -> None:
        """One attempt less."""
        self._recount(events, -1)

    def _recount(self, events: Sequence[Event], step: int) -> None:
        carried = {event.id: event.attempt_count for event in events}
        for row in self._change(list(carried), Status.NEW):
            if row.attempts == carried[row.id]:
                row.attempts = max(row.attempts + step, 0)

    def clear_suspects(self, instance: str, lanes: Collection[int]) -> None:
        """Nobody died of them."""
        for lane in lanes:
            if self.lanes[lane].owner == instance:
                self.lanes[lane].deaths, self.lanes[lane].alone_id = 0, None

    # --- upkeep

    def due(self, lanes: Collection[int]) -> list[DueEvent]:
        """Due retries."""
        found = [row for row in self._of(lanes, Status.RETRY) if row.due is None or row.due <= self.clock()]
        found.sort(key=lambda row: (row.lane, row.due is not None, row.due or 0.0, row.id))
        return [DueEvent(row.id, row.lane, row.aggregate) for row in found]

    def promote(self, due: Sequence[DueEvent]) -> int:
        """retry -> new."""
        chosen = in_front_of_locked(due, self.free(event.id for event in due))
        promoted = self._change(chosen, Status.RETRY)
        for row in promoted:
            row.status, row.due = Status.NEW, None
        return len(promoted)

    def dated_ids(self, lanes: Collection[int], limit: int) -> list[int]:
        """New rows with a due time."""
        return [row.id for row in self._of(lanes, Status.NEW) if row.due is not None][:limit]

    def undate(self, ids: Sequence[int]) -> None:
        """Takes it off."""
        for row in self._change(ids, Status.NEW):
            row.due = None

    def held(self, lanes: Collection[int], after: int = 0) -> list[HeldEvent]:
        """Events behind a dead letter."""
        found = [row for row in self._of(lanes, Status.RETRY) if row.due == HELD_UNTIL and row.id > after]
        return [HeldEvent(row.id, row.aggregate) for row in sorted(found, key=lambda row: row.id)]

    def held_lanes(self, lanes: Collection[int]) -> list[int]:
        """The lanes with such events."""
        return sorted({row.lane for row in self._of(lanes, Status.RETRY) if row.due == HELD_UNTIL})

    def holding(self, lanes: Collection[int]) -> dict[int, LaneSignature]:
        """Of what holds."""
        return _signatures([(row, True) for row in self._of(lanes, Status.ERROR)] + self._holding_dead(lanes))

    def holding_rows(self, lane: int) -> list[Blocked]:
        """What holds."""
        failed = [_blocked(row, failed=True) for row in self._of([lane], Status.ERROR)]
        return failed + [_blocked(row, failed=False) for row, _ in self._holding_dead([lane])]

    def release_held(self, ids: Sequence[int]) -> int:
        """They are due now."""
        released = [row for row in self._change(self.free(ids), Status.RETRY) if row.due == HELD_UNTIL]
        for row in released:
            row.due = None
        return len(released)

    def stuck(self, lanes: Collection[int], age: float) -> list[tuple[int, StuckEvent]]:
        """Rows in processing that nobody has touched, with their lanes."""
        found = [row for row in self._of(lanes, Status.PROCESSING) if row.updated_at < self.clock() - age]
        return [(row.lane, StuckEvent(row.id, row.attempts)) for row in found]

    def release(self, status: Status, ids: Sequence[int], last_error: str) -> int:
        """processing -> new or error."""
        released = self._change(self.free(ids), Status.PROCESSING)
        for row in released:
            row.status, row.due, row.attempts, row.error = status, None, row.attempts + 1, last_error
            row.dead_since = self.version if status is Status.ERROR else None
        return len(released)

    def failed(self, lanes: Collection[int], after: tuple[int, int], limit: int) -> list[tuple[int, int]]:
        """Rows in error, behind (lane, id)."""
        return sorted(place for row in self._of(lanes, Status.ERROR) if (place := (row.lane, row.id)) > after)[:limit]

    def move(self, ids: Sequence[int]) -> list[str]:
        """error -> dead letter."""
        moved = self._change(self.free(ids), Status.ERROR)
        for row in moved:
            del self.rows[row.id]
            row.holds = self.policy.holds(row.topic, "made")
            self.dead[row.id] = row
        return ["other" for _ in moved]

    # --- leases

    def register(self, instance: str, name: str | None, ttl: float) -> None:
        """A new member. Raises LeaseLostError when its name is taken."""
        if name is not None and any(member.name == name for member in self.members.values()):
            raise LeaseLostError(f"another live instance is named {name}")
        self.members[instance] = Member(self.clock() + ttl, name)

    def renew(self, instance: str, ttl: float) -> None:
        """Raises LeaseLostError when it has ended."""
        self.fence(instance)
        self.members[instance].expires_at = self.clock() + ttl

    def expired(self) -> list[str]:
        """Whose lease has ended."""
        return [name for name, member in self.members.items() if member.expires_at <= self.clock()]

    def evict(self) -> list[str]:
        """Those whose rows nobody holds."""
        gone = [name for name in self.expired() if not self.members[name].locks]
        for name in gone:
            for lane in self.lanes.values():
                if lane.owner == name:
                    lane.owner, lane.deaths = None, lane.deaths + 1
            del self.members[name]
        return gone

    def take(self, instance: str, count: int) -> None:
        """Free lanes."""
        for lane in [lane for lane in self.lanes.values() if lane.owner is None][:count]:
            lane.owner = instance

    def give_back(self, instance: str, lanes: Collection[int]) -> None:
        """They are free."""
        for lane in lanes:
            if self.lanes[lane].owner == instance:
                self.lanes[lane].owner, self.lanes[lane].alone_id = None, None

    def deregister(self, instance: str) -> None:
        """Its lanes are free, and not suspect."""
        self.give_back(instance, list(self.lanes))
        self.members.pop(instance, None)

    def alive(self) -> dict[str, float]:
        """The live members, and how long each lives on."""
        now = self.clock()
        return {
            name: self.members[name].expires_at - now
            for name in sorted(self.members)
            if self.members[name].expires_at > now
        }

    def grants(self, instance: str) -> tuple[Grant, ...]:
        """The lanes of an instance."""
        return tuple(
            Grant(number, lane.deaths, lane.alone_id) for number, lane in self.lanes.items() if lane.owner == instance
        )


def _event(row: Row) -> Event:
    return Event(
        row.id, row.lane, f"e{row.id}", "made", "order", row.aggregate, row.topic, b"{}", 0, None, None, None,
        row.attempts, 0,
    )  # fmt: skip


def _blocked(row: Row, *, failed: bool) -> Blocked:
    return Blocked(row.id, row.lane, row.aggregate, (row.topic, "made") if failed else None)


def _signatures(rows: Iterable[tuple[Row, bool]]) -> dict[int, LaneSignature]:
    found: dict[int, LaneSignature] = {}
    for row, _ in rows:
        found[row.lane] = found.get(row.lane, LaneSignature()).plus(row.id)
    return found


def stale_lanes(
    lanes: Sequence[int], known: Mapping[int, LaneSignature], signatures: Mapping[int, LaneSignature]
) -> list[int]:
    """Of which the rows are wanted."""
    return [lane for lane in lanes if known.get(lane) != signatures.get(lane, LaneSignature())]
