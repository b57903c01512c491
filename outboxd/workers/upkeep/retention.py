"""Sent rows and dead letters that are old."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from outboxd.lanes import LaneBook
from outboxd.ports import Upkeep
from outboxd.workers.lease import Lease
from outboxd.workers.upkeep.chunks import CHUNK, LOWEST

PAUSE: Final = 0.05
"""Seconds between two chunks of retention: at most 20,000 rows a second, so that writers do not notice."""


class Retention:
    """Deletes sent rows and dead letters that are old enough. The owner of lane 0 does it for all."""

    name = "retention"

    def __init__(
        self,
        upkeep: Upkeep,
        lease: Lease,
        book: LaneBook,
        *,
        sent: float | None,
        dead_letters: float | None,
        interval: float,
    ) -> None:
        self._upkeep = upkeep
        self._lease = lease
        self._book = book
        self._sent = sent
        self._dead_letters = dead_letters
        self._interval = interval
        self._sweeps: list[_Sweep] = []

    async def run_once(self) -> float:
        """Looks at the next chunk of the primary key, from its low end, until nothing old is left."""
        if not self._lease.trusted or 0 not in self._book.owned:
            self._sweeps = []
            return self._interval
        if not self._sweeps:
            self._sweeps = self._begin()
        sweep = self._sweeps[-1] if self._sweeps else None
        if sweep is None:
            return self._interval
        ids, last = await sweep.expired(sweep.after, sweep.age, CHUNK)
        if ids:
            await sweep.delete(ids)
        if last is None:
            self._sweeps.pop()
        else:
            sweep.after = last
        return PAUSE if self._sweeps else self._interval

    def _begin(self) -> "list[_Sweep]":
        sweeps = []
        if self._sent is not None:
            sweeps.append(_Sweep(self._sent, self._upkeep.expired_sent, self._upkeep.delete_sent))
        if self._dead_letters is not None:
            sweeps.append(_Sweep(self._dead_letters, self._upkeep.expired_dead, self._upkeep.delete_dead))
        return sweeps


@dataclass(slots=True)
class _Sweep:
    """A walk along the primary key of one table."""

    age: float
    expired: Callable[[int, float, int], Awaitable[tuple[list[int], int | None]]]
    delete: Callable[[list[int]], Awaitable[int]]
    after: int = LOWEST
