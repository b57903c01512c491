"""When the relay looks without a ring, and how workers share a look."""

import asyncio
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

import pytest

from outboxd.errors import DatabaseUnavailableError
from outboxd.lanes import LaneBook
from outboxd.ports import Grant, Sighting
from outboxd.telemetry.metrics import Metrics
from outboxd.workers.bell import DEAF, ECHO, IDLE, Bell
from outboxd.workers.rounds import FRESH, Rounds

POLL = 0.05


class NoMetrics:
    """Nobody looks."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *values, **named: None


class OneLookout:
    """Answers when it is told to, and counts how often it was asked."""

    def __init__(self, *, new: bool = False) -> None:
        self.asked: list[list[int]] = []
        self.answer = asyncio.Event()
        self.failing = False
        self._seen = Sighting(new=new, due=False, held=False, failed=False)

    async def look(self, lanes: Sequence[int]) -> Sighting:
        self.asked.append(list(lanes))
        await self.answer.wait()
        if self.failing:
            raise DatabaseUnavailableError("gone")
        return self._seen


def book_of(*lanes: int) -> LaneBook:
    """A book that owns the lanes."""
    book = LaneBook()
    book.grant([Grant(lane, 0, None) for lane in lanes], 1000)
    return book


async def hung_over_what_is_new() -> Bell:
    """A bell that hears; every look finds something."""
    lookout = OneLookout(new=True)
    lookout.answer.set()
    bell = Bell(Rounds(lookout, book_of(1)), cast(Metrics, NoMetrics()), "test")
    bell.hung("ROW")
    await bell.nothing_new()
    return bell


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """`clock(seconds)` lets time pass for who asks the loop; by itself it stands still."""
    loop = asyncio.get_running_loop()
    now = [loop.time()]
    monkeypatch.setattr(loop, "time", lambda: now[0])
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


async def test_behind_a_ring_it_looks_again_and_again_and_then_rests(clock: Callable[[float], None]) -> None:
    """Each look is later than the last, by a factor; within a second there are few. Without a bell it polls."""
    bell = Bell(Rounds(OneLookout(), book_of(1)), cast(Metrics, NoMetrics()), "test")
    assert bell.pause(POLL, found=False) == POLL
    bell.hung("ROW")
    pauses = []
    for _ in range(12):
        pauses.append(bell.pause(POLL, found=False))
        clock(pauses[-1])
    assert pauses[0] == pytest.approx(ECHO, rel=0.5)
    assert all(1.5 * pause < later for pause, later in pairwise(pauses[:6]))
    assert sum(pauses[:6]) > IDLE / 4
    assert pauses[-3:] == pytest.approx([IDLE] * 3, abs=0.1)
    bell.lost("a reason")
    assert bell.pause(POLL, found=False) == POLL


async def test_a_configured_interval_that_is_longer_is_kept(clock: Callable[[float], None]) -> None:
    """With a bell it is not polled more often than without."""
    bell = Bell(Rounds(OneLookout(), book_of(1)), cast(Metrics, NoMetrics()), "test")
    bell.hung("ROW")
    clock(1000)
    now = asyncio.get_running_loop().time()
    assert bell.pause(60.0, found=False) == pytest.approx(60 - now % 60, abs=0.1)


async def test_a_stir_is_answered_by_a_read(clock: Callable[[float], None]) -> None:
    """A lane that was released, or came: what a look said before is not asked."""
    lookout = OneLookout()
    lookout.answer.set()
    bell = Bell(Rounds(lookout, book_of(1)), cast(Metrics, NoMetrics()), "test")
    bell.hung("ROW")
    clock(10)
    assert not await bell.nothing_new()  # it was hung
    assert await bell.nothing_new()
    bell.stir()
    assert not await bell.nothing_new()
    assert await bell.nothing_new()


async def test_a_bell_that_never_rings_is_not_waited_for(clock: Callable[[float], None]) -> None:
    """What is found without a ring, again and again, ends the trust; a ring restores it."""
    bell = await hung_over_what_is_new()
    for found in (False, *[True] * DEAF):  # what was new and is not found is in flight
        clock(2 * IDLE)
        assert bell.trusted
        assert not await bell.nothing_new()
        bell.pause(POLL, found=found)
    assert bell.pause(POLL, found=False) == POLL
    assert not bell.trusted
    bell.ring()
    assert bell.trusted


async def test_who_looks_at_the_same_time_shares_a_look(clock: Callable[[float], None]) -> None:
    """Also when the first who asked is cancelled. Later, and for other lanes, it is a look of its own."""
    lookout, book = OneLookout(), book_of(1)
    rounds = Rounds(lookout, book)
    first, second = asyncio.create_task(rounds.look(1.0)), asyncio.create_task(rounds.look(5.0))
    while not lookout.asked:
        await asyncio.sleep(0)
    first.cancel()
    lookout.answer.set()
    assert not (await second).new
    assert lookout.asked == [[1]]
    book.grant([Grant(2, 0, None)], 1000)
    await rounds.look(1.0)
    await rounds.look(1.0)
    clock(2 * FRESH)
    await rounds.look(1.0)
    assert lookout.asked == [[1], [1, 2], [1, 2]]


async def test_a_look_that_fails_fails_for_all_who_wait(clock: Callable[[float], None]) -> None:
    """And the next one is made anew."""
    lookout = OneLookout()
    lookout.failing = True
    lookout.answer.set()
    rounds = Rounds(lookout, book_of(1))
    found = await asyncio.gather(rounds.look(1.0), rounds.look(1.0), return_exceptions=True)
    assert [type(error) for error in found] == [DatabaseUnavailableError] * 2
    lookout.failing = False
    clock(2 * FRESH)
    assert not (await rounds.look(1.0)).due
    assert len(lookout.asked) == 2


@pytest.mark.usefixtures("clock")
async def test_rounds_are_at_the_same_moments_for_all() -> None:
    """Who looks every second and who looks every five meet."""
    now = asyncio.get_running_loop().time()
    assert {round((now + Rounds.rest(interval)) % 1.0, 2) % 1.0 for interval in (1.0, 5.0)} == {0.0}


async def test_a_find_that_another_cause_explains_is_no_miss(clock: Callable[[float], None]) -> None:
    """A look saw that there is more, a batch was cut, and the rest was found when it landed."""
    bell = await hung_over_what_is_new()
    for _ in range(DEAF):
        clock(2 * IDLE)
        assert not await bell.nothing_new()
        bell.stir()
        assert not await bell.nothing_new()
        bell.pause(POLL, found=True)
    assert bell.trusted


async def test_what_may_be_somebody_elses_does_not_prove_that_it_hears(clock: Callable[[float], None]) -> None:
    """Somebody alters tables all the time; our inserts are kept out of the log."""
    bell = await hung_over_what_is_new()
    for _ in range(DEAF):
        bell.ring(certain=False)
        await bell.nothing_new()
        bell.pause(POLL, found=False)
        clock(2 * IDLE)
        assert not await bell.nothing_new()
        bell.pause(POLL, found=True)
    assert not bell.trusted
