"""What the maintenance workers read and write, in chunks."""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection

from outboxd.model import Status
from outboxd.order import OrderPolicy
from outboxd.ports import Blocked, DueEvent, HeldEvent, LaneSignature, StuckEvent, UnknownStatus
from outboxd.store.events import blocked_by, changed_rows, enforce_fence, microseconds, signatures
from outboxd.store.rows import text, text_or_none
from outboxd.store.session import Session
from outboxd.store.statements import Statements

MOVE_BYTES: Final = 8 * 2**20
"""Payload bytes that one move may copy: it must not last longer than a heartbeat."""

_REASON: Final = re.compile(r"([a-z][a-z_]{0,63}): ")


def reason_of(last_error: str | None) -> str:
    """The code at the start of a `last_error` of ours; `other` for what another dispatcher wrote."""
    match = _REASON.match(last_error or "")
    return match[1] if match else "other"


def _within(budget: int, rows: Sequence[Any]) -> list[Any]:
    """The first of the rows (lane, id, size), at least one, that together stay within the budget."""
    taken: list[Any] = []
    for row in rows:
        budget -= row[2] or 0
        if budget < 0 and taken:
            break
        taken.append(row)
    return taken


def _lock(connection: Connection, statement: str) -> list[int]:
    """The ids of the rows that were free, and are held until the end of the transaction."""
    return [row[0] for row in connection.exec_driver_sql(statement)]


def in_front_of_locked(due: Sequence[DueEvent], free: list[int]) -> list[int]:
    """The ids of those that are free, and not behind one of their aggregate that is not: they would be held again."""
    found, locked = set(free), dict[str, int]()
    for event in due:
        if event.id not in found:
            locked[event.aggregate_id] = min(event.id, locked.get(event.aggregate_id, event.id))
    return [event.id for event in due if event.id < locked.get(event.aggregate_id, event.id + 1)]


class MySqlUpkeep:
    """See `ports.Upkeep`."""

    def __init__(self, session: Session, statements: Statements, policy: OrderPolicy) -> None:
        self._session = session
        self._statements = statements
        self._policy = policy

    async def due_lanes(self, lanes: Sequence[int]) -> list[int]:
        """One read of the index."""
        statement = self._statements.retries.due_lanes(lanes)
        return await self._session.run(lambda connection: [row[0] for row in connection.exec_driver_sql(statement)])

    async def due(self, lanes: Sequence[int], limit: int) -> list[DueEvent]:
        """Lane by lane, until the limit is reached."""

        def work(connection: Connection) -> list[DueEvent]:
            found: list[DueEvent] = []
            for lane in lanes:
                if len(found) >= limit:
                    break
                statement = self._statements.retries.due(lane, limit - len(found))
                rows = connection.exec_driver_sql(statement)
                found += [DueEvent(row_id, lane, text(aggregate)) for row_id, lane, aggregate in rows]
            return found

        return await self._session.run(work)

    async def promote(self, instance: str, due: Sequence[DueEvent]) -> int:
        """One update of what can be locked at once."""
        choose = partial(in_front_of_locked, due)
        return await self._fenced(instance, [event.id for event in due], self._statements.retries.promote, choose)

    async def undate(self, instance: str, lanes: Sequence[int], limit: int) -> int:
        """Reads the ids first, so that the update locks nothing but them."""

        def find(connection: Connection) -> list[int]:
            return [
                row[0]
                for lane in lanes
                for row in connection.exec_driver_sql(self._statements.retries.dated_ids(lane, limit))
            ][:limit]

        ids = await self._session.run(find)

        def undate(connection: Connection) -> int:
            enforce_fence(connection, self._statements, instance)
            return changed_rows(connection, self._statements.retries.undate(ids))

        # Waits for rows that somebody has locked: nothing behind them in their lane can be read before.
        return await self._session.transaction(undate) if ids else 0

    async def held_lanes(self, lanes: Sequence[int]) -> list[int]:
        """One statement."""
        if not lanes:
            return []
        statement = self._statements.retries.held_lanes(lanes)
        return await self._session.run(lambda connection: [row[0] for row in connection.exec_driver_sql(statement)])

    async def holding(self, lanes: Sequence[int]) -> dict[int, LaneSignature]:
        """One statement."""
        statement = self._statements.retries.holding(lanes)
        return await self._session.run(lambda connection: signatures(connection, statement))

    async def holding_rows(self, lane: int) -> list[Blocked]:
        """One statement."""
        statement = self._statements.retries.holding_rows(lane)

        def work(connection: Connection) -> list[Blocked]:
            rows = connection.exec_driver_sql(statement).fetchall()
            return [blocked_by(lane, *row) for row in rows]

        return await self._session.run(work)

    async def held(self, lane: int, after: int, limit: int) -> list[HeldEvent]:
        """One range of the index."""
        statement = self._statements.retries.held(lane, after, limit)

        def work(connection: Connection) -> list[HeldEvent]:
            return [HeldEvent(row_id, text(aggregate)) for row_id, aggregate in connection.exec_driver_sql(statement)]

        return await self._session.run(work)

    async def release_held(self, instance: str, ids: Sequence[int]) -> int:
        """One update of what can be locked at once."""
        return await self._fenced(instance, ids, self._statements.retries.release_held)

    async def stuck_lanes(self, lanes: Sequence[int], age: float) -> list[int]:
        """One range of the index."""
        statement = self._statements.recovery.stuck_lanes(lanes)

        def work(connection: Connection) -> list[int]:
            return [row[0] for row in connection.exec_driver_sql(statement, (microseconds(age),))]

        return await self._session.run(work)

    async def stuck(self, lanes: Sequence[int], age: float, limit: int) -> list[StuckEvent]:
        """One range of the index."""
        statement = self._statements.recovery.stuck(lanes, limit)

        def work(connection: Connection) -> list[StuckEvent]:
            return [StuckEvent._make(row) for row in connection.exec_driver_sql(statement, (microseconds(age),))]

        return await self._session.run(work)

    async def release(self, instance: str, status: Status, ids: Sequence[int], last_error: str) -> int:
        """One update of what can be locked at once."""
        statement = partial(self._statements.recovery.release, status=status)
        return await self._fenced(instance, ids, statement, values=(last_error,))

    async def unknown_status(self, lanes: Sequence[int], limit: int) -> list[UnknownStatus]:
        """Two ranges of the index, which are empty but for a mistake."""
        statement = self._statements.recovery.unknown_status(lanes, limit)

        def work(connection: Connection) -> list[UnknownStatus]:
            return [UnknownStatus._make(row) for row in connection.exec_driver_sql(statement)]

        return await self._session.run(work)

    async def give_up(self, instance: str, status: Status, ids: Sequence[int], last_error: str) -> int:
        """One update of what can be locked at once."""
        statement = partial(self._statements.recovery.give_up, status=status)
        return await self._fenced(instance, ids, statement, values=(last_error,))

    async def _fenced(
        self,
        instance: str,
        ids: Sequence[int],
        statement: Callable[[list[int]], str],
        choose: Callable[[list[int]], list[int]] = list,
        values: tuple[str, ...] = (),
    ) -> int:
        """Writes to those of the rows that nobody has locked: one that somebody has would stop all that waits behind
        it, in lanes that have nothing to do with it."""

        def work(connection: Connection) -> int:
            enforce_fence(connection, self._statements, instance)
            chosen = choose(_lock(connection, self._statements.recovery.lock_free(ids)))
            return changed_rows(connection, statement(chosen), values) if chosen else 0

        return await self._session.transaction(work)

    async def move_dead(
        self, instance: str, lanes: Sequence[int], after: tuple[int, int], limit: int
    ) -> tuple[list[str], int, tuple[int, int] | None]:
        """Locks the rows by their ids, copies them, and deletes those whose copy is there."""
        statements = self._statements.dead_letters
        find = statements.failed(lanes, after, limit)
        found = _within(
            MOVE_BYTES, await self._session.run(lambda connection: connection.exec_driver_sql(find).fetchall())
        )
        if not found:
            return [], 0, None
        last = (found[-1][0], found[-1][1])

        def move(connection: Connection) -> tuple[list[str], int]:
            enforce_fence(connection, self._statements, instance)
            locked = connection.exec_driver_sql(statements.lock_failed(row[1] for row in found)).fetchall()
            groups: defaultdict[tuple[str, int | None], list[int]] = defaultdict(list)
            for event_id, last_error, topic, event_type in locked:
                holds = 1 if self._policy.holds(text(topic), text(event_type)) else None
                groups[reason_of(text_or_none(last_error)), holds].append(event_id)
            moved: list[str] = []
            for (reason, holds), ids in groups.items():
                changed_rows(connection, statements.copy_dead(ids), (reason, holds))
                moved += [reason] * changed_rows(connection, statements.delete_moved(ids))
            return moved, len(locked) - len(moved)

        moved, kept = await self._session.transaction(move)
        return moved, kept, last

    async def expired_sent(self, after: int, age: float, limit: int) -> tuple[list[int], int | None]:
        """One chunk of the primary key."""
        return await self._expired(self._statements.retention.old_sent(after, limit), age, limit)

    async def expired_dead(self, after: int, age: float, limit: int) -> tuple[list[int], int | None]:
        """One chunk of the primary key."""
        return await self._expired(self._statements.retention.old_dead(after, limit), age, limit)

    async def _expired(self, statement: str, age: float, limit: int) -> tuple[list[int], int | None]:
        values = (microseconds(age), microseconds(age))
        rows = await self._session.run(lambda connection: connection.exec_driver_sql(statement, values).fetchall())
        # Ids follow time, roughly: a full chunk without a single old row means that nothing old is left behind it.
        # Where everything is old at once, a chunk in which nothing is done means the same.
        more = len(rows) == limit and any(done if age == 0 else old for _, done, old in rows)
        return [row_id for row_id, expired, _ in rows if expired], rows[-1][0] if more else None

    async def delete_sent(self, ids: Sequence[int]) -> int:
        """One delete of what can be locked at once."""
        return await self._delete(self._statements.recovery.lock_free(ids), self._statements.retention.delete_sent)

    async def delete_dead(self, ids: Sequence[int]) -> int:
        """One delete of what can be locked at once."""
        return await self._delete(self._statements.retention.lock_dead(ids), self._statements.retention.delete_dead)

    async def _delete(self, lock: str, statement: Callable[[list[int]], str]) -> int:
        def work(connection: Connection) -> int:
            free = _lock(connection, lock)
            return changed_rows(connection, statement(free)) if free else 0

        return await self._session.transaction(work)
