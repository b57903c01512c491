"""How soon a batch follows on the one before it."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from outboxd.backoff import Backoff
from outboxd.holds import HoldBook
from outboxd.lanes import LaneBook
from outboxd.lifecycle import RetryPolicy
from outboxd.model import Event
from outboxd.order import OrderPolicy
from outboxd.ports import Found, Grant, Report, Standing, TopicFilter
from outboxd.telemetry.metrics import Metrics
from outboxd.workers.bell import IDLE, Bell
from outboxd.workers.lease import Lease
from outboxd.workers.relay import Limits, Relay
from outboxd.workers.relay.parts import Parts
from outboxd.workers.relay.tempo import MOST_PACE, QUIET, SLOW_READ, SLOW_READS
from tests.relay.test_bell import NoMetrics
from tests.relay.test_reader import Table, event


class Outbox(Table):
    """A table, and a sink that takes its time."""

    async def publish(self, events: Sequence[Event], _permitted: Callable[[], bool]) -> Report:
        """All are delivered."""
        await asyncio.sleep(0.2)
        return Report(delivered=list(events))

    async def sent(self, events: Sequence[Event], _asked_at: float) -> int:
        """They are gone."""
        self._events = [event for event in self._events if event not in events]
        return len(events)

    def write(self, *events: Event) -> None:
        """By an application."""
        self._events += events


def relay_of(outbox: Table, batch_size: int, poll_interval: float = 0.05, *, deaths: int = 0) -> Relay:
    """Of an owner of the lanes 1 and 2, which polls. `deaths`: how many owners of the lanes have died."""
    lease, book, order = Lease(), LaneBook(), OrderPolicy()
    lease.extend("i", float("inf"))
    book.grant([Grant(lane, deaths, None) for lane in (1, 2)], 1000)
    ports: Any = (outbox, outbox, outbox, outbox)
    parts = Parts(*ports, book, HoldBook(order), lease, RetryPolicy(3, Backoff()), order)
    metrics = cast(Metrics, NoMetrics())
    bell = Bell(cast(Any, None), metrics, "s")
    return Relay(parts, Limits(batch_size, 10**6, 3, 10**6, poll_interval), metrics, "s", bell)


async def test_a_batch_that_had_all_there_was_is_followed_at_a_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a part of what a batch takes, and never of more than MOST_PACE; so events gather meanwhile."""
    outbox = Outbox([event(1, lane=1)])
    relay = relay_of(outbox, 1000)
    await relay.run_once()
    await relay.drain(10)
    relay._draining = False
    outbox.write(event(2, lane=1))
    loop = asyncio.get_running_loop()
    now = loop.time()
    with monkeypatch.context() as still:
        still.setattr(loop, "time", lambda: now)  # a machine that stalls would keep the distance for us
        await relay.run_once()
        outbox.write(event(3, lane=2))
        reads = outbox.reads
        assert 0 < await relay.run_once() <= MOST_PACE
    assert outbox.reads == reads
    await asyncio.sleep(MOST_PACE)
    await relay.run_once()
    assert [[e.id for e in batch.events] for batch in relay._in_flight.values()] == [[2], [3]]
    await relay.drain(10)


async def test_a_backlog_is_read_without_a_rest() -> None:
    """Each batch is followed by the next at once."""
    outbox = Outbox([event(number, lane=1 + number // 3) for number in range(6)])
    relay = relay_of(outbox, 2)
    assert await relay.run_once() == 0
    assert await relay.run_once() == 0
    assert len(relay._in_flight) == 2
    await relay.drain(10)


class Slow(Outbox):
    """Where rows of others stand in the way of each read."""

    async def read(self, lanes: Sequence[int], limit: int, topics: TopicFilter) -> Found:
        """Takes long, and finds nothing."""
        await asyncio.sleep(2 * SLOW_READ)
        return await super().read(lanes, limit, topics)

    def watch(self, *_: object, seconds: float) -> None:
        """Not here."""


async def test_a_ring_does_not_cut_short_the_rest_behind_slow_reads() -> None:
    """Whatever wakes the relay, the database is left alone for so long."""
    outbox = Slow([])
    relay = relay_of(outbox, 1000)
    for lane in (1, 2):
        relay._.holds.load(lane, [])
    relay._bell.hung("ROW")
    rest = 0.0
    for _ in range(SLOW_READS):
        await asyncio.sleep(QUIET)
        relay._bell.ring()
        rest = await relay.run_once()
    reads = outbox.reads
    assert rest > 4 * SLOW_READ
    relay._bell.ring()
    assert rest / 2 < await relay.run_once() <= rest
    assert outbox.reads == reads == SLOW_READS


class Dated(Outbox):
    """Whose rows carry a due time although they are new."""

    def __init__(self, events: Sequence[Event], chunks: int) -> None:
        super().__init__(events)
        self.chunks = chunks
        """How many times a chunk of them is put right."""

    async def read(self, lanes: Sequence[int], limit: int, topics: TopicFilter) -> Found:
        """Those of the lane that the limit cuts must wait."""
        events, _ = await super().read(lanes, limit, topics)
        return Found(events, Standing({}, cut_lane_dated=len(events) == limit and self.chunks > 0))

    async def undate(self, *_: object) -> int:
        """One chunk."""
        self.chunks -= 1
        return 1


async def test_rows_that_carry_a_due_time_are_put_right_without_a_rest() -> None:
    """Chunk after chunk, also where a doorbell would let the relay sleep."""
    outbox = Dated([event(number, lane=1) for number in range(4)], chunks=20)
    relay = relay_of(outbox, 2)
    for lane in (1, 2):
        relay._.holds.load(lane, [])
    relay._bell.hung("ROW")
    while outbox.chunks > 0:
        assert await relay.run_once() == 0
    await relay.run_once()
    assert relay._in_flight
    await relay.drain(10)


async def test_what_a_cut_read_left_is_read_without_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is nothing that the bell has missed, however long ago it rang. (Here a look would fail: there is nobody.)"""
    outbox = Outbox([event(number, lane=1 + number // 2) for number in range(4)])
    relay = relay_of(outbox, 2)
    relay._bell.hung("ROW")
    await relay.run_once()
    loop = asyncio.get_running_loop()
    true = loop.time
    monkeypatch.setattr(loop, "time", lambda: true() + 10)
    await relay.run_once()
    assert len(relay._in_flight) == 2
    await relay.drain(10)


async def test_looks_in_vain_do_not_put_off_what_a_landing_sets_free() -> None:
    """Rows of a lane that is in flight are found by nobody, however often it rings; then they are read at once."""
    outbox = Outbox([event(1, lane=1)])
    relay = relay_of(outbox, 1000)
    relay._bell.hung("ROW")
    await relay.run_once()
    outbox.write(event(2, lane=1))
    while relay._in_flight:
        relay._bell.ring()
        await asyncio.sleep(min(await relay.run_once(), 0.02))
    relay._next_at = 0.0  # the pace
    await relay.run_once()
    assert [[e.id for e in batch.events] for batch in relay._in_flight.values()] == [[2]]
    await relay.drain(10)


async def test_a_lease_that_is_trusted_again_is_soon_made_use_of() -> None:
    """Nobody wakes the relay for it, and with a doorbell somebody may poll once an hour."""
    relay = relay_of(Outbox([event(1, lane=1)]), 1000, poll_interval=3600)
    relay._.lease.extend("i", 0)
    assert await relay.run_once() <= IDLE
    relay._.lease.extend("i", float("inf"))
    await relay.run_once()
    assert relay.in_flight[0] == 1
    await relay.drain(10)
