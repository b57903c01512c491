"""Rounds: workers that look for work at the same time share one look."""

import asyncio
from typing import Final

from outboxd.lanes import LaneBook
from outboxd.ports import Lookout, Sighting

FRESH: Final = 0.05
"""Seconds for which a look is as good as a new one; less for who looks often."""

NOTHING: Final = Sighting(new=False, due=False, held=False, failed=False)


class Rounds:
    """What there is to do in the lanes of this instance."""

    def __init__(self, lookout: Lookout, book: LaneBook) -> None:
        self._lookout = lookout
        self._book = book
        self._lanes: list[int] = []
        self._look: asyncio.Task[Sighting] | None = None
        self._looked_at = 0.0

    async def look(self, interval: float) -> Sighting:
        """For who looks every `interval` seconds. Raises DatabaseUnavailableError."""
        now, lanes = asyncio.get_running_loop().time(), self._book.owned
        if not lanes:
            return NOTHING
        if self._look is None or lanes != self._lanes or now - self._looked_at > min(FRESH, interval / 4):
            self._lanes, self._looked_at = lanes, now
            self._look = asyncio.create_task(self._ask(lanes))
            self._look.add_done_callback(_note_failure)
        # Who asked first may be cancelled; the others still wait for the answer.
        return await asyncio.shield(self._look)

    async def _ask(self, lanes: list[int]) -> Sighting:
        return await self._lookout.look(lanes)

    @staticmethod
    def rest(interval: float) -> float:
        """Seconds until the next round: all who look every so often look together."""
        return interval - asyncio.get_running_loop().time() % interval


def _note_failure(look: "asyncio.Task[Sighting]") -> None:
    """Where everybody who waited was cancelled, nobody else would."""
    if not look.cancelled():
        look.exception()
