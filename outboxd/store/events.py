"""Reading batches of events, and writing what became of them."""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import Connection

from outboxd.errors import LeaseLostError
from outboxd.model import MAX_INT32, Event, Status
from outboxd.ports import (
    EVERY_TOPIC,
    NOTHING_STANDS,
    Blocked,
    Found,
    Hold,
    LaneSignature,
    Rejection,
    Snapshot,
    Standing,
    TopicFilter,
)
from outboxd.store.rows import Events, text
from outboxd.store.session import Session
from outboxd.store.statements import Statements, integers, these

FEW_EVENTS: Final = 100
"""Behind a read of fewer, what blocks is read with the events: a round trip less."""

MANY_BLOCKING: Final = 1000
CROWDED: Final = 60.0
"""Behind more blocking rows than that, it is not, for so many seconds: those of all lanes would be counted, and they
are far more than those of the lanes that have events."""


def microseconds(seconds: float) -> int:
    """For `INTERVAL %s MICROSECOND`."""
    return round(seconds * 1_000_000)


def enforce_fence(connection: Connection, statements: Statements, instance: str) -> None:
    """Holds the instance's row until the end of the transaction. Raises LeaseLostError when its lease has ended."""
    if connection.exec_driver_sql(statements.settling.fence(), (instance,)).first() is None:
        raise LeaseLostError(f"the lease of instance {instance} has ended")


def changed_rows(connection: Connection, statement: str, values: tuple[Any, ...] = ()) -> int:
    """Executes a write; returns how many rows it matched."""
    return connection.exec_driver_sql(statement, values).rowcount


def signatures(connection: Connection, statement: str) -> dict[int, LaneSignature]:
    """The signature of each lane, from rows of parts of it."""
    found: dict[int, LaneSignature] = {}
    for lane, packed in connection.exec_driver_sql(statement):
        _add(found, lane, packed)
    return found


def _add(found: dict[int, LaneSignature], lane: int, packed: bytes) -> None:
    """A part of a lane's signature to the others."""
    rows, total, hashes = map(int, packed.split())
    before = found.get(lane, LaneSignature())
    found[lane] = LaneSignature(before.rows + rows, before.total + total, before.hashes + hashes)


def blocked_by(lane: int, row_id: int, aggregate_id: bytes, topic: bytes | None, event_type: bytes | None) -> Blocked:
    """What a row that blocks is. Topic and event type are those of a row in error, else NULL."""
    failed = None if topic is None or event_type is None else (text(topic), text(event_type))
    return Blocked(row_id, lane, text(aggregate_id), failed)


def _cut_lane(events: Sequence[Event], limit: int) -> int | None:
    """The lane of which there may be more than was read."""
    return events[-1].lane if len(events) == limit else None


class MySqlEventReader:
    """See `ports.EventReader`."""

    def __init__(self, session: Session, statements: Statements) -> None:
        self._session = session
        self._statements = statements
        self._events = Events()
        self._quiet = True
        """The last read found few events. So a round trip is most of what a batch costs, and all lanes are few more
        than those of the events."""
        self._crowded_until = 0.0
        """By `time.monotonic`: so many rows block that none are asked for but those of the events' lanes."""

    async def read(self, lanes: Sequence[int], limit: int, topics: TopicFilter = EVERY_TOPIC) -> Found:
        """One consistent read in autocommit, and one or two of the index: with it, or behind it."""

        def work(connection: Connection) -> Found:
            at_once = self._quiet and topics == EVERY_TOPIC and time.monotonic() >= self._crowded_until
            found = (
                self._together(connection, lanes, limit) if at_once else self._apart(connection, lanes, limit, topics)
            )
            self._quiet = len(found.events) < FEW_EVENTS
            return found

        return await self._session.run(work)

    def _apart(self, connection: Connection, lanes: Sequence[int], limit: int, topics: TopicFilter) -> Found:
        events = self._read(connection, lanes, limit, topics)
        if not events:
            return Found(events, NOTHING_STANDS)
        read = sorted({event.lane for event in events})
        return Found(events, self._standing(connection, read, _cut_lane(events, limit)))

    def _together(self, connection: Connection, lanes: Sequence[int], limit: int) -> Found:
        rows, found = [], dict[int, LaneSignature]()
        statement = self._statements.reading.read_with_signatures(lanes, limit)
        for row in connection.exec_driver_sql(statement).cursor.fetchall():
            if row[0] is None:
                _add(found, row[1], row[2])
            else:
                rows.append(row)
        if sum(signature.rows for signature in found.values()) > MANY_BLOCKING:
            self._crowded_until = time.monotonic() + CROWDED
        # Nobody promises the order of a union's rows.
        events = sorted(self._events.of(rows), key=attrgetter("lane"))
        return Found(events, Standing(found, self._dated(connection, _cut_lane(events, limit))))

    def watch(self, lanes: Sequence[int], interval: float, found: Callable[[], None], *, seconds: float) -> None:
        """By the thread that reads, while it has nothing else to do."""
        statement = self._statements.reading.any_new(lanes)
        self._session.watch(
            interval,
            lambda connection: connection.exec_driver_sql(statement).first() is not None,
            found,
            seconds=seconds,
        )

    def _read(self, connection: Connection, lanes: Sequence[int], limit: int, topics: TopicFilter) -> list[Event]:
        statement = self._statements.reading.read(lanes, limit, topics)
        named = [*((topics.only,) if topics.only is not None else ()), *topics.without]
        values = tuple(topic.encode() for topic in named) or None
        # The driver's own rows: SQLAlchemy's would be made only to be taken apart again.
        events = self._events.of(connection.exec_driver_sql(statement, values).cursor.fetchall())
        # What was found in the index first comes back in any order.
        return events if topics == EVERY_TOPIC else sorted(events, key=attrgetter("lane"))

    async def load_payloads(self, ids: Sequence[int]) -> dict[int, tuple[bytes | None, bytes | None]]:
        """By primary key."""
        statement = self._statements.reading.payloads(ids)

        def work(connection: Connection) -> dict[int, tuple[bytes | None, bytes | None]]:
            return {row[0]: (row[1], row[2]) for row in connection.exec_driver_sql(statement)}

        return await self._session.run(work)

    def _standing(self, connection: Connection, lanes: Sequence[int], cut_lane: int | None) -> Standing:
        found = signatures(connection, self._statements.reading.signatures(lanes))
        return Standing(found, self._dated(connection, cut_lane))

    def _dated(self, connection: Connection, cut_lane: int | None) -> bool:
        if cut_lane is None:
            return False
        return connection.exec_driver_sql(self._statements.reading.dated(cut_lane)).first() is not None

    async def snapshot(
        self,
        lanes: Sequence[int],
        limit: int,
        topics: TopicFilter,
        known: Mapping[int, LaneSignature],
    ) -> Snapshot:
        """One read-only transaction under REPEATABLE READ: a view of one moment, and no locks."""

        def work(connection: Connection) -> Snapshot:
            events = self._read(connection, lanes, limit, topics)
            standing = self._standing(connection, lanes, _cut_lane(events, limit))
            blocked: dict[int, list[Blocked]] = {
                lane: [] for lane in lanes if known.get(lane) != standing.signatures.get(lane, LaneSignature())
            }
            # Lane by lane: the driver's rows of all of them at once would be too much memory.
            for lane in blocked:
                if lane in standing.signatures:
                    rows = connection.exec_driver_sql(self._statements.reading.blocked([lane])).cursor.fetchall()
                    blocked[lane] = [blocked_by(lane, row[0], *row[2:]) for row in rows]
            return Snapshot(events, standing, blocked)

        return await self._session.snapshot(work)


class MySqlSettler:
    """See `ports.Settler`."""

    def __init__(self, session: Session, statements: Statements, lanes_table: str) -> None:
        self._session = session
        self._statements = statements
        self._lanes = lanes_table

    async def sent(self, events: Sequence[Event], asked_at: float) -> int:
        """One write in autocommit, without a fence."""
        statement = self._statements.settling.sent([event.id for event in events])
        return await self._session.run(lambda connection: self._change(connection, statement, (), events, asked_at))

    async def reject(
        self, instance: str, rejections: Sequence[Rejection], holds: Sequence[Hold], asked_at: float
    ) -> None:
        """All of a batch's rejections and holds, or none."""

        def work(connection: Connection) -> None:
            enforce_fence(connection, self._statements, instance)
            for rejection in rejections:
                self._reject(connection, rejection, asked_at)
            for hold in holds:
                self._hold(connection, hold, asked_at)

        await self._session.transaction(work)

    def _reject(self, connection: Connection, rejection: Rejection, asked_at: float) -> None:
        ids = [event.id for event in rejection.events]
        retry = rejection.status is Status.RETRY
        statement = self._statements.settling.reject(ids, rejection.status, rejection.attempt_delta, retry=retry)
        delay = (microseconds(rejection.delay),) if retry else ()
        self._change(connection, statement, (*delay, rejection.last_error), rejection.events, asked_at)

    def _hold(self, connection: Connection, hold: Hold, asked_at: float) -> None:
        # A predecessor that is gone, or free again, holds nobody: its successors stay new and are read again.
        due = connection.exec_driver_sql(self._statements.settling.due_of(hold.predecessor)).scalar()
        if due is not None:
            statement = self._statements.settling.hold([event.id for event in hold.events])
            self._change(connection, statement, (due,), hold.events, asked_at)

    def _change(
        self,
        connection: Connection,
        statement: str,
        values: tuple[Any, ...],
        events: Sequence[Event],
        asked_at: float,
    ) -> int:
        """Executes the write. On a connection that is younger than the read, events must agree in their own ids."""
        if self._session.opened_at < asked_at:
            return changed_rows(connection, statement, values)
        # One that is not UTF-8 is found in no row: its event is read again, and then the connection is old enough.
        event_ids = tuple(event.event_id.encode(errors="replace").decode() for event in events)
        return changed_rows(connection, statement + these(len(event_ids)), (*values, *event_ids))

    async def mark_suspects(self, instance: str, events: Sequence[Event], alone: Event | None) -> None:
        """Counts the attempt, and remembers which event is alone in its batch."""

        def work(connection: Connection) -> None:
            enforce_fence(connection, self._statements, instance)
            self._recount(connection, events, 1)
            lanes = integers({event.lane for event in events})
            alone_id = alone.id if alone else None
            changed_rows(
                connection,
                f"UPDATE {self._lanes} SET alone_id = %s WHERE lane IN ({lanes}) AND owner = %s",
                (alone_id, instance),
            )

        await self._session.transaction(work)

    async def unmark_suspects(self, instance: str, events: Sequence[Event]) -> None:
        """An update for each count."""

        def work(connection: Connection) -> None:
            enforce_fence(connection, self._statements, instance)
            self._recount(connection, events, -1)

        await self._session.transaction(work)

    def _recount(self, connection: Connection, events: Sequence[Event], step: int) -> None:
        by_count: defaultdict[int, list[int]] = defaultdict(list)
        for event in events:
            by_count[event.attempt_count].append(event.id)
        for count, ids in by_count.items():
            changed_rows(
                connection, self._statements.settling.recount(ids, count, min(MAX_INT32, max(0, count + step)))
            )

    async def clear_suspects(self, instance: str, lanes: Collection[int]) -> None:
        """The lanes' owner has proven that their first batch does no harm."""

        def work(connection: Connection) -> None:
            enforce_fence(connection, self._statements, instance)
            changed_rows(
                connection,
                f"UPDATE {self._lanes} SET deaths = 0, alone_id = NULL "
                f"WHERE lane IN ({integers(lanes)}) AND owner = %s",
                (instance,),
            )

        await self._session.transaction(work)
