"""Batches of a reader over a table in memory: suspects, topics and holds together."""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any

from outboxd.backoff import Backoff
from outboxd.errors import Failure
from outboxd.holds import HoldBook
from outboxd.lanes import LaneBook
from outboxd.lifecycle import RetryPolicy
from outboxd.model import Event
from outboxd.order import OrderPolicy
from outboxd.ports import NOTHING_STANDS, Found, Grant, LaneSignature, Snapshot, TopicFilter
from outboxd.workers.lease import Lease
from outboxd.workers.relay.parts import Parts
from outboxd.workers.relay.reader import BatchReader


def event(number: int, lane: int = 1, topic: str = "t", payload: bytes | None = b"{}", size: int = 0) -> Event:
    """Of one aggregate."""
    return Event(number, lane, f"e{number}", "made", "order", "a", topic, payload, size, None, None, None, 0, 0)


class Table:
    """Reader, settler, upkeep and sink in one."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = list(events)
        self.cleared: list[int] = []
        self.reads = 0

    def delete(self, events: Iterable[Event]) -> None:
        """They are delivered."""
        for event in events:
            self._events.remove(event)

    async def read(self, lanes: Sequence[int], limit: int, topics: TopicFilter) -> Found:
        """As the statement does; nothing blocks."""
        self.reads += 1
        chosen = [e for e in self._events if e.lane in lanes and e.topic not in topics.without]
        return Found([e for e in chosen if topics.only in {None, e.topic}][:limit], NOTHING_STANDS)

    async def snapshot(
        self, lanes: Sequence[int], limit: int, topics: TopicFilter, _known: Mapping[int, LaneSignature]
    ) -> Snapshot:
        """The same."""
        return Snapshot(*await self.read(lanes, limit, topics), {lane: [] for lane in lanes})

    async def load_payloads(self, ids: Sequence[int]) -> dict[int, tuple[bytes | None, bytes | None]]:
        """None of them can be read."""
        return dict.fromkeys(ids, (None, None))

    async def mark_suspects(self, _instance: str, _events: Sequence[Event], _alone: Event | None) -> None:
        """Done."""

    async def clear_suspects(self, _instance: str, lanes: Iterable[int]) -> None:
        """Remembered."""
        self.cleared += lanes

    async def check(self) -> None:
        """The sink is there."""

    def refuse(self, _event: Event) -> Failure | None:
        """Nothing is too large for it."""
        return None


def reader_of(table: Table, *, deaths: int = 0, order: OrderPolicy | None = None) -> tuple[LaneBook, BatchReader]:
    """Of an owner of the lanes 1 and 2, whose owners died so often."""
    lease, book, order = Lease(), LaneBook(), order or OrderPolicy()
    lease.extend("i", float("inf"))
    book.grant([Grant(lane, deaths, None) for lane in (1, 2)], 1000)
    policy = RetryPolicy(3, Backoff())
    ports: Any = (table, table, table, table)
    return book, BatchReader(Parts(*ports, book, HoldBook(order), lease, policy, order))


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """In a loop of its own."""
    return asyncio.run(work)


def test_a_probe_of_a_topic_acquits_no_lane() -> None:
    """Its rows were not read, so nothing is known of them."""
    table = Table([event(7, lane=2)])
    book, reader = reader_of(table, deaths=2)
    assert run(reader.next(1, 10**6, TopicFilter(only="missing"), probe=True)) is None
    assert (book.suspects(), table.cleared) == ([1, 2], [])


def test_a_lane_is_suspect_while_the_topic_of_its_rows_is_paused() -> None:
    """What may have killed its owner is not read; other lanes are read all the same."""
    table = Table([event(7, lane=2, topic="paused")])
    book, reader = reader_of(table, deaths=2)
    assert run(reader.next(1000, 10**6, TopicFilter(without=("paused",)))) is None
    assert (book.suspects(), table.cleared) == ([1, 2], [])


def test_suspect_lanes_without_rows_do_not_keep_the_others_from_being_read() -> None:
    """They are acquitted, and the same call goes on."""
    table = Table([event(7, lane=3)])
    book, reader = reader_of(table, deaths=1)
    book.grant([Grant(3, 0, None)], 1000)
    batch = run(reader.next(1000, 10**6))
    assert [e.id for e in batch.events] == [7]
    assert sorted(table.cleared) == [1, 2]


def test_nothing_overtakes_an_event_that_cannot_be_read_and_holds() -> None:
    """It becomes a dead letter; the others of its aggregate stay new."""
    table = Table([event(1, payload=None, size=100), event(2)])
    _, reader = reader_of(table, order=OrderPolicy(hold=True))
    batch = run(reader.next(1000, 10**6))
    assert [e.id for e, _ in batch.failed] == [1]
    assert batch.events == []


def test_a_probe_sends_one_event_and_leaves_the_others() -> None:
    """The lanes of those that are left are free again."""
    table = Table([event(1, lane=1), event(2, lane=2)])
    book, reader = reader_of(table)
    batch = run(reader.next(100, 10**6, TopicFilter(only="t"), probe=True))
    assert [e.id for e in batch.events] == [1]
    assert book.readable() == [2]


def test_a_lane_that_has_more_is_read_on_although_others_come_first() -> None:
    """A full batch left the lanes behind its last one out; when there is nothing in them, the same call goes on."""
    table = Table([event(number, lane=1) for number in range(5)])
    book, reader = reader_of(table)
    first = run(reader.next(2, 10**6))
    book.release(first.lanes)
    table.delete(first.events)
    second = run(reader.next(2, 10**6))
    assert second is not None
    assert [e.id for e in second.events] == [2, 3]


def test_lanes_that_have_no_more_are_not_looked_at_twice() -> None:
    """While the lane with more is in a batch."""
    table = Table([event(number, lane=1) for number in range(5)])
    _, reader = reader_of(table)
    run(reader.next(2, 10**6))
    table.reads = 0
    assert run(reader.next(2, 10**6)) is None
    assert table.reads == 1
