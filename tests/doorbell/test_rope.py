"""Between the thread that listens and the event loop: one ring for all that was heard since the last one."""

import asyncio
import io
from typing import Any, cast

import pytest

from outboxd.ports import Bell
from outboxd.store.binlog import doorbell
from outboxd.store.binlog.sieve import Heard
from outboxd.store.binlog.stream import _Received


class Counting:
    """A bell."""

    def __init__(self) -> None:
        self.rings = 0
        self.certain: list[bool] = []

    def lost(self, reason: str) -> None:
        """Is no ring."""

    def ring(self, *, certain: bool) -> None:
        """Counts."""
        self.rings += 1
        self.certain.append(certain)


async def rings_of(*pulls: list[Heard]) -> int:
    """How often it rings where these were heard, one list after the other, each before more was received."""
    bell = Counting()
    rope = doorbell._Rope(cast(Bell, bell), asyncio.get_running_loop())
    for heard in pulls:
        for one in heard:
            rope.pull(one)
        rope.let_go()
    await asyncio.sleep(0)
    return bell.rings


async def test_what_is_heard_at_once_is_one_ring() -> None:
    assert await rings_of([Heard.INSERT] * 50) == 1


async def test_what_is_heard_behind_a_ring_rings_again() -> None:
    """However soon: what the first one woke may have read before."""
    assert await rings_of([Heard.INSERT], [Heard.INSERT], [], [Heard.INSERT]) == 3


async def test_silence_does_not_ring() -> None:
    assert await rings_of([], []) == 0


async def test_what_may_be_somebody_elses_rings_more_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """But not an insert beside it."""
    monkeypatch.setattr(doorbell, "UNCLEAR_PACE", 60.0)
    assert await rings_of([Heard.UNCLEAR], [Heard.UNCLEAR], [Heard.UNCLEAR]) == 1
    assert await rings_of([Heard.UNCLEAR], [Heard.UNCLEAR, Heard.INSERT, Heard.UNCLEAR]) == 2


async def test_a_ring_says_whether_it_is_certain() -> None:
    bell = Counting()
    rope = doorbell._Rope(cast(Bell, bell), asyncio.get_running_loop())
    for heard in ([Heard.UNCLEAR], [Heard.UNCLEAR, Heard.INSERT], [Heard.INSERT, Heard.UNCLEAR]):
        for one in heard:
            rope.pull(one)
        rope.let_go()
    await asyncio.sleep(0)
    assert bell.certain == [False, True, True]


async def test_behind_a_ring_the_thread_sleeps_and_else_it_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(doorbell.time, "sleep", slept.append)
    rope = doorbell._Rope(cast(Bell, Counting()), asyncio.get_running_loop())
    rope.pull(Heard.INSERT)
    rope.let_go()
    assert slept == [doorbell.PACE]
    for _ in range(1000):
        rope.let_go()
    assert slept == [doorbell.PACE]


async def test_what_was_pulled_when_the_log_was_lost_does_not_ring_in_the_next_one() -> None:
    """The login of the next stream receives bytes too, and the bell is not hung yet."""
    bell = Counting()
    rope = doorbell._Rope(cast(Bell, bell), asyncio.get_running_loop())
    rope.pull(Heard.INSERT)
    rope.lost("a reason")
    rope.let_go()
    await asyncio.sleep(0)
    assert bell.rings == 0


def test_all_that_was_received_is_looked_at_before_more_is_asked_for() -> None:
    """Three packets in two pieces: nobody is told between the first two, which came together."""
    pieces = [b"aabb", b"cc"]
    told: list[str] = []

    class Socket(io.RawIOBase):
        def readinto(self, buffer: Any) -> int:
            piece = pieces.pop(0)
            buffer[: len(piece)] = piece
            return len(piece)

    stream = io.BufferedReader(_Received(Socket(), lambda: told.append("caught up")), 1024)
    for packet in (b"aa", b"bb", b"cc"):
        assert stream.read(2) == packet
        told.append(packet.decode())
    assert told == ["caught up", "aa", "bb", "caught up", "cc"]
