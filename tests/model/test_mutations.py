"""The model can fail: each of these mistakes, made on purpose, breaks the promise that it must break."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, find, settings

from outboxd.errors import Failure
from outboxd.holds import HoldBook
from outboxd.lanes import LaneBook
from outboxd.lifecycle import RetryPolicy
from outboxd.model import Event
from outboxd.ports import Report
from outboxd.settlement import Plan, plan
from outboxd.workers.lease import Lease
from outboxd.workers.relay.reader import BatchReader
from tests.model.broker import SimulatedSink
from tests.model.connection import SimulatedStore
from tests.model.database import Violation
from tests.model.test_promises import FAULTS, scenarios
from tests.model.world import World

EXAMPLES = 400
"""In so many runs each must be found."""

Mutation = Callable[[], Any]


def torn_reads() -> Any:
    """What was read is not compared with what blocks."""
    return patch.object(HoldBook, "stale", lambda *_: False)


@contextmanager
def lane_in_two_batches() -> Iterator[None]:
    """A busy lane is read again."""
    with ExitStack() as stack:
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

    return patch("outboxd.workers.relay.relay.plan", hopeful)


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


@pytest.mark.parametrize(
    ("mutation", "promise", "faults"),
    [
        (lane_in_two_batches, "order", FAULTS),
        (torn_reads, "order", FAULTS),
        (promotion_while_busy, "order", ["poison"]),
        (unfenced_writes, "order", FAULTS),
        (sends_what_is_behind, "order", FAULTS),
        (nothing_is_held_back, "order", FAULTS),
        (dated_rows_as_they_come, "order", FAULTS),
        (endless_lease, "one owner", FAULTS),
        (unknown_is_sent, "nothing is lost", FAULTS),
    ],
)
def test_a_mistake_is_found(mutation: Mutation, promise: str, faults: list[str]) -> None:
    """In some run."""

    def broken(scenario: Any) -> bool:
        try:
            World(scenario).live()
        except Violation as violation:
            return violation.promise == promise
        return False

    with mutation():
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
