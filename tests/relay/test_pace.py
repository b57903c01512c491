"""How soon a batch follows on the one before it."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

from outboxd.backoff import Backoff
from outboxd.holds import HoldBook
from outboxd.lanes import LaneBook
from outboxd.lifecycle import RetryPolicy
from outboxd.model import Event
from outboxd.order import OrderPolicy
from outboxd.ports import Grant, Report
from outboxd.telemetry.metrics import Metrics
from outboxd.workers.bell import Bell
from outboxd.workers.lease import Lease
from outboxd.workers.relay import Limits, Relay
from outboxd.workers.relay.reader import Reading
from outboxd.workers.relay.tempo import MOST_PACE
from tests.relay.test_bell import NoMetrics
from tests.relay.test_reader import Table, event


class Outbox(Table):
    """A table, and a sink that takes its time."""

    async def publish(self, events: Sequence[Event], _permitted: Callable[[], bool]) -> Report:
        """All are delivered."""
        await asyncio.sleep(0.2)
        return Report(delivered=list(events))

    async def sent(self, ids: Sequence[int]) -> int:
        """They are gone."""
        self._events = [event for event in self._events if event.id not in ids]
        return len(ids)

    def write(self, *events: Event) -> None:
        """By an application."""
        self._events += events


def relay_of(outbox: Outbox, batch_size: int) -> Relay:
    """Of an owner of the lanes 1 and 2, which polls."""
    lease, book, order = Lease(), LaneBook(), OrderPolicy()
    lease.extend("i", float("inf"))
    book.grant([Grant(lane, 0, None) for lane in (1, 2)], 1000)
    parts: Any = (outbox, outbox, outbox, outbox)
    reading = Reading(*parts, book, HoldBook(order), lease, RetryPolicy(3, Backoff()), order)
    metrics = cast(Metrics, NoMetrics())
    bell = Bell(cast(Any, None), metrics, "s")
    return Relay(reading, Limits(batch_size, 10**6, 3, 10**6, 0.05), metrics, "s", bell)


async def test_a_batch_that_had_all_there_was_is_followed_at_a_distance() -> None:
    """Of a part of what a batch takes, and never of more than MOST_PACE; so events gather meanwhile."""
    outbox = Outbox([event(1, lane=1)])
    relay = relay_of(outbox, 1000)
    await relay.run_once()
    await relay.drain(10)
    relay._draining = False
    outbox.write(event(2, lane=1))
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
