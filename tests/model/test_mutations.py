"""The model can fail: each of these mistakes, made on purpose, breaks the promise that it must break."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, cast
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, find, settings

from outboxd.errors import Failure
from outboxd.holds import HoldBook
from outboxd.lanes import LaneBook
from outboxd.lifecycle import RetryPolicy
from outboxd.model import Event
from outboxd.ports import NOTHING_STANDS, Found, Report, TopicFilter
from outboxd.settlement import Plan, plan
from outboxd.workers.bell import Bell
from outboxd.workers.lease import Lease
from outboxd.workers.relay.reader import BatchReader
from tests.model.broker import SimulatedSink
from tests.model.connection import SimulatedStore
from tests.model.database import Violation
from tests.model.test_promises import FAULTS, scenarios
from tests.model.world import Scenario, Step, World

EXAMPLES = 800
"""In so many runs each must be found."""

Mutation = Callable[[], Any]


def torn_reads() -> Any:
    """What blocks is read behind the events, and the events are not read again with it."""

    async def compared(reader: BatchReader, lanes: Sequence[int], limit: int, topics: TopicFilter) -> Found:
        port, holds = cast(SimulatedStore, reader._.reader), reader._.holds
        events = await port.events(lanes, limit, topics)
        if not events:
            return Found(events, NOTHING_STANDS)
        _, standing, blocked = await port.snapshot(lanes, limit, topics, {})
        for lane in lanes:
            holds.load(lane, blocked.get(lane, []))
        return Found(events, standing)

    return patch.object(BatchReader, "_compared", compared)


def no_comparison() -> Any:
    """What the book knows is taken for true."""
    return patch.object(HoldBook, "stale", lambda *_: False)


@contextmanager
def lane_in_two_batches() -> Iterator[None]:
    """A busy lane is read again, for what is not in flight yet."""
    in_order = BatchReader._in_order

    async def others(reader: BatchReader, instance: str, events: list[Event], *more: Any) -> list[Event]:
        taken = reader.__dict__.setdefault("taken", set())
        found = [event for event in await in_order(reader, instance, events, *more) if event.id not in taken]
        taken.update(event.id for event in found)
        return found

    with ExitStack() as stack:
        stack.enter_context(patch.object(BatchReader, "_in_order", others))
        stack.enter_context(patch.object(LaneBook, "_free", lambda book: set(book._owned)))
        stack.enter_context(patch.object(LaneBook, "occupy", lambda book, lanes: book._occupied.update(lanes)))
        yield


@contextmanager
def promotion_while_busy() -> Iterator[None]:
    """A retry becomes new while a batch of its lane is at work."""

    def reserve(book: LaneBook, _: str, lanes: list[int]) -> list[int]:
        return sorted(book._owned.intersection(lanes))

    with torn_reads(), patch.object(LaneBook, "reserve", reserve):
        yield


@contextmanager
def unfenced_writes() -> Iterator[None]:
    """Who lost its lease may still write retry, held and promoted."""

    async def unfenced(store: SimulatedStore, session: str, label: str, _: str, commit: Callable[[], Any]) -> Any:
        return await store._run(session, label, commit)

    with torn_reads(), patch.object(SimulatedStore, "_fenced", unfenced):
        yield


def sends_what_is_behind() -> Any:
    """A sink that goes on behind an event which may succeed later."""

    def blame(sink: SimulatedSink, event: Event, rest: list[Event], failure: Failure, report: Report) -> list[Event]:
        report.failed.append((event, failure))
        return rest

    return patch.object(SimulatedSink, "_blame", blame)


def unknown_is_sent() -> Any:
    """When no answer comes, the event is taken for delivered."""

    def hopeful(report: Report, held: Any, policy: RetryPolicy) -> Plan:
        report.delivered += report.unknown
        return plan(report, held, policy)

    return patch("outboxd.workers.relay.settling.plan", hopeful)


def endless_lease() -> Any:
    """An instance that trusts its lease for ever."""
    return patch.object(Lease, "trusted", property(lambda lease: lease._until is not None))


def dated_rows_as_they_come() -> Any:
    """Rows with a due time stand behind younger ones without; nobody cares."""

    async def in_order(_: BatchReader, __: str, events: list[Event], *___: Any) -> list[Event]:
        return sorted(events, key=lambda event: (event.lane, event.id))

    return patch.object(BatchReader, "_in_order", in_order)


def nothing_is_held_back() -> Any:
    """Events are sent although an older one of their aggregate waits."""
    return patch.object(BatchReader, "_hold_back", lambda _, events: (events, []))


def believed_bell() -> Any:
    """While it is silent there is nothing to read: nobody looks for what a lost ring would have told of."""

    async def nothing_new(bell: Bell) -> bool:
        stirred, bell._stirred = bell._stirred, False
        return bell.trusted and not stirred

    return patch.object(Bell, "nothing_new", nothing_new)


def endless_rest() -> Any:
    """A bell that would ring is waited for, as long as it takes."""
    pause = Bell.pause

    def rest(bell: Bell, poll_interval: float, *, found: bool) -> float:
        return 3600.0 if bell.trusted else pause(bell, poll_interval, found=found)

    return patch.object(Bell, "pause", rest)


def broken_promise(scenario: Scenario) -> str | None:
    """The promise that this run breaks."""
    try:
        World(scenario).live()
    except Violation as violation:
        return violation.promise
    return None


@pytest.mark.parametrize(
    ("mutation", "promise", "faults"),
    [
        (lane_in_two_batches, "order", ["lose"]),
        (no_comparison, "order", FAULTS),
        (promotion_while_busy, "order", ["poison"]),
        (sends_what_is_behind, "order", ["poison"]),
        (nothing_is_held_back, "order", FAULTS),
        (dated_rows_as_they_come, "order", ["delayed"]),
        (endless_lease, "one owner", ["freeze", "join"]),
        (unknown_is_sent, "nothing is lost", FAULTS),
        (believed_bell, "nothing is lost", ["ring"]),
        (endless_rest, "nothing is lost", ["ring"]),
    ],
)
def test_a_mistake_is_found(mutation: Mutation, promise: str, faults: list[str]) -> None:
    """In some run that would keep its promises without it."""

    def broken(scenario: Scenario) -> bool:
        with mutation():
            found = broken_promise(scenario) == promise
        return found and broken_promise(scenario) is None

    # Order breaks on the way, or not at all: nobody waits long for what never settles.
    with patch("tests.model.world.PATIENCE", 10):
        find(
            scenarios(faults),
            broken,
            settings=settings(
                max_examples=EXAMPLES,
                derandomize=True,
                database=None,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )


def test_the_fence_keeps_order_where_reads_are_torn() -> None:
    """A daemon is frozen at its promotion of 1; another takes the lane and reads 2, and then the promotion happens."""
    all_of_it, first, second = Step("go", how=3), Step("go", how=1), Step("pick", 1)
    refused = [Step("poison"), Step("tick", how=1), *[all_of_it] * 6, Step("tick", how=2), first]
    taken_over = [Step("freeze"), Step("commit"), Step("stall"), Step("join"), *[second] * 6]
    steps = [*refused, *taken_over, first, *[second] * 8]
    scenario = Scenario(hold=False, processes=1, aggregates=1, steps=steps)
    with torn_reads():
        assert broken_promise(scenario) is None
    with unfenced_writes():
        assert broken_promise(scenario) == "order"
