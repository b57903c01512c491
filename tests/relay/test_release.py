"""Events that were held behind a dead letter, over a table in memory."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from outboxd.holds import HoldBook
from outboxd.lanes import LaneBook
from outboxd.order import OrderPolicy
from outboxd.ports import Blocked, Grant, HeldEvent, LaneSignature, Sighting
from outboxd.workers.lease import Lease
from outboxd.workers.rounds import Rounds
from outboxd.workers.upkeep import HoldRelease, Reservations

LANE = 1


class Table:
    """Dead letters that hold, and events that are held, all of one aggregate in one lane."""

    def __init__(self) -> None:
        self.dead: set[int] = set()
        self.waiting: set[int] = set()
        self.locked: set[int] = set()
        self.held_now = True

    async def look(self, _lanes: Sequence[int]) -> Sighting:
        """There are held events, or there were a moment ago."""
        return Sighting(new=False, due=False, held=self.held_now, failed=False)

    async def held_lanes(self, _lanes: Sequence[int]) -> list[int]:
        """The lane, while something is held."""
        return [LANE] if self.waiting else []

    async def holding(self, _lanes: Sequence[int]) -> dict[int, LaneSignature]:
        """Of the dead letters."""
        signature = LaneSignature()
        for event_id in self.dead:
            signature = signature.plus(event_id)
        return {LANE: signature}

    async def holding_rows(self, _lane: int) -> list[Blocked]:
        """The dead letters."""
        return [Blocked(event_id, LANE, "a", None) for event_id in self.dead]

    async def held(self, _lane: int, after: int, _limit: int) -> list[HeldEvent]:
        """By id."""
        return [HeldEvent(event_id, "a") for event_id in sorted(self.waiting) if event_id > after]

    async def release_held(self, _instance: str, ids: Sequence[int]) -> int:
        """They are due, but for those that somebody has locked."""
        free = set(ids) - self.locked
        self.waiting -= free
        return len(free)


@pytest.fixture
def table() -> Table:
    """An empty one."""
    return Table()


@pytest.fixture
def release(table: Table) -> HoldRelease:
    """Of an owner of the lane."""
    lease, book, order = Lease(), LaneBook(), OrderPolicy(hold=True)
    lease.extend("i", float("inf"))
    book.grant([Grant(LANE, 0, None)], 1000)
    reservations = Reservations(book, HoldBook(order))
    port = cast(Any, table)
    return HoldRelease(port, lease, reservations, Rounds(port, book), order, source="s", interval=0.01)


async def test_what_is_held_waits_for_its_dead_letter(table: Table, release: HoldRelease) -> None:
    """And goes when that is requeued."""
    table.dead, table.waiting = {1}, {2, 3}
    await release.run_once()
    assert table.waiting == {2, 3}
    table.dead = set()
    await release.run_once()
    assert table.waiting == set()


async def test_a_dead_letter_that_comes_and_goes_between_two_looks(table: Table, release: HoldRelease) -> None:
    """What it held is let go of, although all looks as it did when the last one had gone."""
    table.dead, table.waiting = set(), {2}
    await release.run_once()
    assert table.waiting == set()
    table.waiting = {5}
    await release.run_once()
    assert table.waiting == set()


async def test_held_events_that_somebody_has_locked_are_let_go_of_at_the_next_look(
    table: Table, release: HoldRelease
) -> None:
    """The others go at once, and what is rightly held stays."""
    table.dead, table.waiting, table.locked = {4}, {2, 3, 5}, {2}
    await release.run_once()
    assert table.waiting == {2, 5}
    table.locked = set()
    await release.run_once()
    assert table.waiting == {5}


async def test_held_events_that_vanish_while_their_lane_is_busy_keep_nobody_from_reading_it(table: Table) -> None:
    """An operator deletes them: the lane that was wanted for their sake is read on."""
    lease, book, order = Lease(), LaneBook(), OrderPolicy(hold=True)
    lease.extend("i", float("inf"))
    book.grant([Grant(LANE, 0, None)], 1000)
    port = cast(Any, table)
    reservations = Reservations(book, HoldBook(order))
    release = HoldRelease(port, lease, reservations, Rounds(port, book), order, source="s", interval=0.001)
    table.dead, table.waiting = {1}, {2, 3}
    book.occupy([LANE])
    await release.run_once()
    table.waiting, table.held_now = set(), False
    await asyncio.sleep(0.01)
    await release.run_once()
    book.release([LANE])
    assert book.readable() == [LANE]
