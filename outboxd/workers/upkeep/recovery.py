"""Rows that no other worker would ever see: of another dispatcher's processing, and of an unknown status."""

from collections import defaultdict
from typing import Final

import structlog

from outboxd.lanes import LaneBook
from outboxd.lifecycle import Happening, RetryPolicy, decide
from outboxd.model import Status
from outboxd.ports import Upkeep
from outboxd.workers.lease import Lease
from outboxd.workers.upkeep.chunks import CHUNK
from outboxd.workers.upkeep.reservations import SOON, Reservations

log = structlog.get_logger(__name__)

STUCK: Final = "stuck: another dispatcher left this event in processing"

UNKNOWN_STATUS: Final = (
    "unknown_status: column status is {}, which means nothing; write 0 (new), or 2 (retry) with a due time, and "
    "requeue the event"
)


class StuckRecovery:
    """Takes back rows that another dispatcher left in processing; as a promotion, only while their lane is free."""

    name = "recovery"

    def __init__(
        self,
        upkeep: Upkeep,
        lease: Lease,
        reservations: Reservations,
        policy: RetryPolicy,
        source: str,
        *,
        timeout: float,
        interval: float,
    ) -> None:
        self._upkeep = upkeep
        self._lease = lease
        self._reservations = reservations
        self._policy = policy
        self._timeout = timeout
        self._interval = interval
        self._log = log.bind(source=source)

    async def run_once(self) -> float:
        """Releases what is stuck in the lanes that are free; the others are looked at again soon."""
        if not self._lease.trusted or not self._reservations.owned:
            return self._interval
        stuck = await self._upkeep.stuck_lanes(self._reservations.owned, self._timeout)
        async with self._reservations.of(self.name, stuck) as reserved:
            for lane in reserved:
                await self._recover(lane)
        return self._interval if len(reserved) == len(stuck) else SOON

    async def _recover(self, lane: int) -> None:
        while stuck := await self._upkeep.stuck([lane], self._timeout, CHUNK):
            groups: defaultdict[Status, list[int]] = defaultdict(list)
            for event in stuck:
                transition = decide(Status.PROCESSING, Happening.STUCK, event.attempt_count, self._policy)
                groups[transition.status].append(event.id)
            counts: dict[str, int] = {}
            for status, ids in groups.items():
                counts[status.name.lower()] = await self._upkeep.release(self._lease.require(), status, ids, STUCK)
            if any(counts.values()):
                self._log.warning("events.recovered", lane=lane, **counts)
            if sum(counts.values()) < len(stuck):
                return  # the others are locked, and still the first ones


class UnknownStatusSweep:
    """Gives up rows whose status is no status: no other worker would ever see them. Nothing waits for them."""

    name = "unknown_status"

    def __init__(
        self, upkeep: Upkeep, lease: Lease, book: LaneBook, policy: RetryPolicy, *, source: str, interval: float
    ) -> None:
        self._upkeep = upkeep
        self._lease = lease
        self._book = book
        self._policy = policy
        self._interval = interval
        self._log = log.bind(source=source)

    async def run_once(self) -> float:
        """Gives up the next chunk; asks to go on at once as long as there is more."""
        if not self._lease.trusted or not self._book.owned:
            return self._interval
        found = await self._upkeep.unknown_status(self._book.owned, CHUNK)
        groups: defaultdict[tuple[int, Status], list[int]] = defaultdict(list)
        for row in found:
            transition = decide(None, Happening.UNKNOWN_STATUS, row.attempt_count, self._policy)
            groups[row.status, transition.status].append(row.id)
        given_up = 0
        for (unknown, status), ids in groups.items():
            reason = UNKNOWN_STATUS.format(unknown)
            count = await self._upkeep.give_up(self._lease.require(), status, ids, reason)
            if count:
                self._log.warning("events.given_up", count=count, first_id=ids[0], reason=reason)
            given_up += count
        return 0.0 if given_up == CHUNK else self._interval
