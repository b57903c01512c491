"""Retries that are due."""

from outboxd.ports import Upkeep
from outboxd.workers.lease import Lease
from outboxd.workers.rounds import Rounds
from outboxd.workers.upkeep.chunks import CHUNK
from outboxd.workers.upkeep.reservations import SOON, Reservations


class RetryScheduler:
    """Makes due retries new again, while their lane is free."""

    name = "retry"

    def __init__(
        self, upkeep: Upkeep, lease: Lease, reservations: Reservations, rounds: Rounds, interval: float
    ) -> None:
        self._upkeep = upkeep
        self._lease = lease
        self._reservations = reservations
        self._rounds = rounds
        self._interval = interval

    async def run_once(self) -> float:
        """Promotes what is due in the lanes that are free; the others are looked at again soon."""
        if not self._lease.trusted or not self._reservations.owned:
            return self._interval
        seen = await self._rounds.look(self._interval)
        due = await self._upkeep.due_lanes(self._reservations.owned) if seen.due else []
        async with self._reservations.of(self.name, due) as reserved:
            for lane in reserved:
                await self._promote(lane)
        return self._rounds.rest(self._interval) if len(reserved) == len(due) else SOON

    async def _promote(self, lane: int) -> None:
        while due := await self._upkeep.due([lane], CHUNK):
            if await self._upkeep.promote(self._lease.require(), due) < len(due):
                return  # the others are locked, and still the first ones
