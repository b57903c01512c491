"""The loop of a worker that fails."""

import asyncio
from typing import Any, cast

from outboxd.backoff import Backoff
from outboxd.errors import DatabaseUnavailableError
from outboxd.telemetry.metrics import Metrics
from outboxd.workers.loop import DatabaseWatch, Loop
from tests.relay.test_bell import NoMetrics


class Failing:
    """A worker without a database."""

    name = "failing"

    def __init__(self) -> None:
        self.turns = 0

    async def run_once(self) -> float:
        """Cannot."""
        self.turns += 1
        raise DatabaseUnavailableError("gone")


async def test_who_wakes_a_worker_does_not_cut_its_back_off_to_nothing() -> None:
    """A bell rings for every commit, and each turn is a connection to a server that may be full."""
    worker, nothing = Failing(), cast(Any, NoMetrics())
    backoff = Backoff(base=0.1, max=5.0, jitter=0.0)
    loop = Loop(worker, nothing, cast(Metrics, nothing), "s", backoff=backoff, watch=DatabaseWatch("s"))
    loop.start()
    clock = asyncio.get_running_loop().time
    began = clock()
    async with asyncio.timeout(60):
        while worker.turns < 4:
            loop.wake()
            await asyncio.sleep(0.003)
    took = clock() - began
    await loop.stop()
    # Three rests, of which each has the base at least; without a wake they would be 0.7 s.
    assert took >= 0.29
