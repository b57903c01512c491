"""Lets go of events that were held behind a dead letter, once it is requeued or discarded."""

import time
from typing import Final

import structlog

from outboxd.order import OrderPolicy
from outboxd.ports import LaneSignature, Upkeep
from outboxd.workers.lease import Lease
from outboxd.workers.rounds import Rounds
from outboxd.workers.upkeep.chunks import CHUNK, LOWEST
from outboxd.workers.upkeep.reservations import SOON, Reservations

log = structlog.get_logger(__name__)

REVIEW: Final = 30.0
"""Seconds after which a lane with held events is looked at although nothing seems to have changed."""


class HoldRelease:
    """The worker. It only makes events due; the retry scheduler makes them new."""

    name = "holds"

    def __init__(
        self,
        upkeep: Upkeep,
        lease: Lease,
        reservations: Reservations,
        rounds: Rounds,
        order: OrderPolicy,
        *,
        source: str,
        interval: float,
    ) -> None:
        self._upkeep = upkeep
        self._lease = lease
        self._reservations = reservations
        self._rounds = rounds
        self._order = order
        self._interval = interval
        self._seen: dict[int, tuple[LaneSignature, float]] = {}
        """What held in a lane when it was looked at last, and when that was."""
        self._log = log.bind(source=source)

    async def run_once(self) -> float:
        """Looks at the lanes with held events in which something changed, while they are free."""
        if not self._lease.trusted or not self._reservations.owned:
            self._seen.clear()
            return self._interval
        seen = await self._rounds.look(self._interval)
        lanes = await self._upkeep.held_lanes(self._reservations.owned) if seen.held else []
        if not lanes:
            self._seen.clear()
        holding = await self._upkeep.holding(lanes) if lanes else {}
        # Also for no lanes: one that was asked for and not free is waited for until it is asked for no more.
        changed = [lane for lane in lanes if self._changed(lane, holding.get(lane, LaneSignature()))]
        async with self._reservations.of(self.name, changed) as reserved:
            for lane in reserved:
                await self._release(lane)
        return self._rounds.rest(self._interval) if len(reserved) == len(changed) else SOON

    def _changed(self, lane: int, signature: LaneSignature) -> bool:
        seen, at = self._seen.get(lane, (None, 0.0))
        return seen != signature or time.monotonic() - at > REVIEW

    async def _release(self, lane: int) -> None:
        """No batch is at work in the lane, so nothing is held anew meanwhile."""
        instance = self._lease.require()
        holding = (await self._upkeep.holding([lane])).get(lane, LaneSignature())
        holders: dict[str, int] = {}
        for row in await self._upkeep.holding_rows(lane):
            if row.failed is None or self._order.holds(*row.failed):
                holders[row.aggregate_id] = min(row.id, holders.get(row.aggregate_id, row.id))
        after, released, kept, locked = LOWEST, 0, 0, 0
        while held := await self._upkeep.held(lane, after, CHUNK):
            free = [event.id for event in held if event.id < holders.get(event.aggregate_id, event.id + 1)]
            done = await self._upkeep.release_held(instance, free) if free else 0
            after, released, kept = held[-1].id, released + done, kept + len(held) - len(free)
            locked += len(free) - done
        self._seen.pop(lane, None)
        if kept and not locked:
            # Else nothing is remembered: a dead letter may come, hold events and go again between two looks.
            self._seen[lane] = (holding, time.monotonic())
        if released:
            self._log.info("events.released", lane=lane, count=released)
