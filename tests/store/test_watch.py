"""While nothing is there to deliver, the thread that reads looks out by itself."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pymysql
from pymysql.constants import ER

from tests.conftest import Database
from tests.end_to_end.application import INSERT, Ledger
from tests.store.opened import store_of

EVERY = 0.02
PATIENCE = 60.0
LANES = range(64)


def commit(outbox: Database, events: int = 1) -> None:
    """As an application does."""
    with outbox.connect() as application, application.cursor() as cursor:
        for number in range(events):
            cursor.execute(INSERT, Ledger().row(f"a{number}", "orders"))


@contextmanager
def ended() -> Iterator[None]:
    """A session that was listed may have ended by itself before it is killed."""
    try:
        yield
    except pymysql.OperationalError as error:
        if error.args[0] != ER.NO_SUCH_THREAD:
            raise


async def test_what_is_committed_is_found(outbox: Database) -> None:
    """Once, also where the same thread is given other work all the time; and a new watch finds it again."""
    async with store_of(outbox) as store:
        found = asyncio.Event()
        store.reader.watch(LANES, EVERY, found.set, seconds=PATIENCE)
        for _ in range(10):
            await store.lookout.look(LANES)
            await asyncio.sleep(EVERY / 2)
        assert not found.is_set()
        await asyncio.to_thread(commit, outbox)
        async with asyncio.timeout(PATIENCE):
            await found.wait()
        assert len((await store.reader.read(LANES, 10)).events) == 1
        again = asyncio.Event()
        store.reader.watch(LANES, EVERY, again.set, seconds=PATIENCE)
        async with asyncio.timeout(PATIENCE):
            await again.wait()


async def test_busy_thread_still_looks(outbox: Database) -> None:
    """Work that comes more often than the looks does not put them off."""
    await asyncio.to_thread(commit, outbox)
    async with store_of(outbox) as store:
        found = asyncio.Event()
        store.reader.watch(LANES, EVERY, found.set, seconds=PATIENCE)
        async with asyncio.timeout(PATIENCE):
            while not found.is_set():
                await store.lookout.look(LANES)


async def test_whose_lanes_have_nothing_is_left_alone(outbox: Database) -> None:
    """Another instance's events are none of its business."""
    await asyncio.to_thread(commit, outbox)
    async with store_of(outbox) as store:
        (event,) = (await store.reader.read(LANES, 10)).events
        others, mine = asyncio.Event(), asyncio.Event()
        store.reader.watch([lane for lane in LANES if lane != event.lane], EVERY, others.set, seconds=PATIENCE)
        await asyncio.sleep(5 * EVERY)
        store.reader.watch([event.lane], EVERY, mine.set, seconds=PATIENCE)
        async with asyncio.timeout(PATIENCE):
            await mine.wait()
        assert not others.is_set()


async def test_it_ends_when_nobody_asks_again(outbox: Database) -> None:
    """What is committed behind that is for others to find."""
    async with store_of(outbox) as store:
        found = asyncio.Event()
        session = cast(Any, store.reader)._session
        store.reader.watch(LANES, EVERY, found.set, seconds=2 * EVERY)
        await session.run(lambda _: None)  # behind the beginning of the watch
        async with asyncio.timeout(PATIENCE):
            while session._watch is not None:
                await asyncio.sleep(EVERY)
        await asyncio.to_thread(commit, outbox)
        await asyncio.sleep(5 * EVERY)
        assert not found.is_set()


async def test_a_lost_connection_is_told(outbox: Database) -> None:
    """Whoever asks next meets it, and puts it right."""
    async with store_of(outbox) as store:
        await store.reader.read(LANES, 10)
        found = asyncio.Event()
        store.reader.watch(LANES, EVERY, found.set, seconds=PATIENCE)
        with outbox.connect() as root, root.cursor() as cursor:
            mine = "SELECT id FROM information_schema.processlist WHERE db = %s AND id <> CONNECTION_ID()"
            cursor.execute(mine, (outbox.name,))
            for (session,) in cursor.fetchall():
                with ended():
                    cursor.execute(f"KILL {session}")
        async with asyncio.timeout(PATIENCE):
            await found.wait()


async def test_closing_ends_it(outbox: Database) -> None:
    """And the thread; no later look opens another connection."""
    before = threading.active_count()
    async with store_of(outbox) as store:
        store.reader.watch(LANES, EVERY, lambda: None, seconds=PATIENCE)
        await asyncio.sleep(2 * EVERY)
    assert cast(Any, store.reader)._session._watch is None
    for _ in range(100):
        if threading.active_count() <= before:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("a thread is left")
