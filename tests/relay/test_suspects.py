"""An attempt that was counted before suspects are sent, and then they are not: it is taken back."""

import asyncio
from collections.abc import Callable, Iterable, Sequence

import pytest

from outboxd.model import Event
from outboxd.ports import Report
from tests.relay.test_pace import relay_of
from tests.relay.test_reader import Table, event


class Outbox(Table):
    """Counts attempts: a write is done, and its answer comes later. Its broker is silent."""

    def __init__(self, events: Sequence[Event]) -> None:
        super().__init__(events)
        self.attempts = {event.id: event.attempt_count for event in events}
        self.asked = asyncio.Event()

    async def mark_suspects(self, _instance: str, events: Sequence[Event], _alone: Event | None) -> None:
        """One attempt more."""
        await self._recount(events, 1)

    async def unmark_suspects(self, _instance: str, events: Sequence[Event]) -> None:
        """One less."""
        await self._recount(events, -1)

    async def clear_suspects(self, _instance: str, _lanes: Iterable[int]) -> None:
        """Done."""
        await self._recount([], 0)

    async def publish(self, _events: Sequence[Event], _permitted: Callable[[], bool]) -> Report:
        """Never answers."""
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def _recount(self, events: Sequence[Event], step: int) -> None:
        """Of the rows whose count is still that of the events, as the statement does."""
        for row in events:
            self.attempts[row.id] += step if self.attempts[row.id] == row.attempt_count else 0
        self.asked.set()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "answers",
    [0, 1, 2],
    ids=["while the attempt is counted", "while other lanes are acquitted", "while the broker does not answer"],
)
async def test_a_stop_takes_the_attempt_back(answers: int) -> None:
    """Whatever the relay waits for at that moment; and the stop comes through."""
    outbox = Outbox([event(1), event(2)])
    relay = relay_of(outbox, 1000, deaths=1)
    turn = asyncio.create_task(relay.run_once())
    for _ in range(answers + 1):
        await outbox.asked.wait()
        outbox.asked.clear()
    assert outbox.attempts == {1: 1, 2: 1}
    turn.cancel()
    await asyncio.gather(turn, return_exceptions=True)
    assert turn.cancelled() == (answers < 2)
    await relay.drain(0.01)
    assert relay.in_flight == (0, 0)
    assert outbox.attempts == {1: 0, 2: 0}
