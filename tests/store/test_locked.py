"""Rows that somebody else's transaction holds: workers leave them, and do what they can with the others, at once."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from outboxd.model import HELD_UNTIL, Status
from outboxd.ports import DueEvent
from outboxd.store.store import Store
from tests.conftest import Database
from tests.end_to_end.application import INSERT, Ledger
from tests.store.opened import store_of

INSTANCE = "test/1"
SOON = 30.0
"""Seconds; whoever waited for the row would do so five times `LEASE / 8`, and then fail."""
LEASE = 60.0

Done = Awaitable[int]


async def promote(store: Store, ids: list[int]) -> int:
    """Retries, each of an aggregate of its own."""
    return await store.upkeep.promote(INSTANCE, [DueEvent(row_id, 0, f"a{row_id}") for row_id in ids])


async def move(store: Store, _ids: list[int]) -> int:
    """Rows in error."""
    moved, _, _ = await store.upkeep.move_dead(INSTANCE, range(64), (-1, 0), 10)
    return len(moved)


WORK: dict[str, tuple[int, Callable[[Store, list[int]], Done]]] = {
    "promote": (Status.RETRY, promote),
    "release_held": (Status.RETRY, lambda store, ids: store.upkeep.release_held(INSTANCE, ids)),
    "release": (Status.PROCESSING, lambda store, ids: store.upkeep.release(INSTANCE, Status.NEW, ids, "why")),
    "give_up": (99, lambda store, ids: store.upkeep.give_up(INSTANCE, Status.ERROR, ids, "why")),
    "move_dead": (Status.ERROR, move),
    "delete_sent": (Status.SENT, lambda store, ids: store.upkeep.delete_sent(ids)),
    "delete_dead": (Status.SENT, lambda store, ids: store.upkeep.delete_dead(ids)),
}


@contextmanager
def locked(outbox: Database, table: str, row_id: int) -> Iterator[None]:
    """As by an operator at the client."""
    with outbox.connect() as operator, operator.cursor() as cursor:
        operator.begin()
        assert cursor.execute(f"SELECT id FROM {table} WHERE id = %s FOR UPDATE", (row_id,))
        yield
        operator.rollback()


def fill(cursor: Any, status: int) -> list[int]:
    """Three rows of that status, held and failed as it needs, and as many dead letters."""
    for number in range(3):
        cursor.execute(INSERT, Ledger().row(f"a{number}", "orders"))
    cursor.execute("UPDATE outbox_events SET status = %s, next_attempt_at = %s", (status, HELD_UNTIL))
    columns = "id, event_id, event_type, aggregate_type, aggregate_id, topic, payload, attempt_count"
    cursor.execute(f"INSERT INTO outbox_deadletters ({columns}) SELECT {columns} FROM outbox_events WHERE status = 1")
    cursor.execute("SELECT id FROM outbox_events ORDER BY id")
    return [row[0] for row in cursor.fetchall()]


@pytest.mark.parametrize("name", WORK)
async def test_the_others_are_done_at_once_and_this_one_when_it_is_free(outbox: Database, name: str) -> None:
    """On both servers."""
    status, work = WORK[name]
    table = "outbox_deadletters" if name == "delete_dead" else "outbox_events"
    with outbox.connect() as application, application.cursor() as cursor:
        ids = fill(cursor, status)
    async with store_of(outbox, LEASE) as store:
        await store.leases.register(INSTANCE, "test", LEASE)
        with locked(outbox, table, ids[1]):
            async with asyncio.timeout(SOON):
                assert await work(store, ids) == 2
                assert await work(store, [ids[1]]) == 0
        assert await work(store, ids) == 1


async def test_what_is_behind_a_locked_row_of_its_aggregate_stays_with_it(outbox: Database) -> None:
    """It would be held again, and promoted again, as long as the row is locked."""
    with outbox.connect() as application, application.cursor() as cursor:
        ids = fill(cursor, Status.RETRY)
    due = [DueEvent(row_id, 0, "a") for row_id in ids]
    async with store_of(outbox, LEASE) as store:
        await store.leases.register(INSTANCE, "test", LEASE)
        with locked(outbox, "outbox_events", ids[1]):
            assert await store.upkeep.promote(INSTANCE, due) == 1
        with outbox.connect() as application, application.cursor() as cursor:
            cursor.execute("SELECT id FROM outbox_events WHERE status = 0")
            assert cursor.fetchall() == ((ids[0],),)
        assert await store.upkeep.promote(INSTANCE, due) == 2
