"""The maintenance workers: retry scheduler, dead-letter mover, stuck-event recovery, the sweep for rows of an unknown
status, retention, gauge sampler.

All have the same shape, and all work in chunks of at most `CHUNK` rows.
"""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from outboxd.holds import HoldBook
from outboxd.lanes import LaneBook
from outboxd.lifecycle import Happening, RetryPolicy, decide
from outboxd.model import Status
from outboxd.ports import Sampler, Upkeep
from outboxd.telemetry.metrics import Metrics
from outboxd.workers.lease import Lease
from outboxd.workers.rounds import Rounds

log = structlog.get_logger(__name__)

CHUNK: Final = 1000

BEGINNING: Final = (-1, 0)
"""In front of every lane and id."""

LOWEST: Final = -(2**63)
"""In front of every id: an application may have chosen a negative one."""

PAUSE: Final = 0.05
"""Seconds between two chunks of retention: at most 20,000 rows a second, so that writers do not notice."""

SOON: Final = 0.02
"""Seconds until a lane that was busy is asked for again."""

STUCK: Final = "stuck: another dispatcher left this event in processing"

UNKNOWN_STATUS: Final = (
    "unknown_status: column status is {}, which means nothing; write 0 (new), or 2 (retry) with a due time, and "
    "requeue the event"
)


class Reservations:
    """Lanes that are kept from being read while rows of theirs become new again, so that the two never cross."""

    def __init__(self, book: LaneBook, holds: HoldBook) -> None:
        self._book = book
        self._holds = holds
        self.released: Callable[[], None] = lambda: None
        """Called when there may be something new to read."""

    @property
    def owned(self) -> list[int]:
        """The owned lanes."""
        return self._book.owned

    @asynccontextmanager
    async def of(self, holder: str, lanes: Sequence[int]) -> AsyncIterator[list[int]]:
        """Those of the lanes that are free; the others are not read again until this holder had them, or no longer
        asks for them. What the hold book knew of them is forgotten."""
        reserved = self._book.reserve(holder, lanes)
        try:
            self._holds.forget(reserved)
            yield reserved
        finally:
            self._book.release(reserved)
            if reserved:
                self.released()


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
            await self._upkeep.promote(self._lease.require(), [event.id for event in due])


class DeadLetterMover:
    """Moves rows in error to the dead letters."""

    name = "dead_letters"

    def __init__(
        self,
        upkeep: Upkeep,
        lease: Lease,
        book: LaneBook,
        rounds: Rounds,
        metrics: Metrics,
        *,
        source: str,
        interval: float,
    ) -> None:
        self._upkeep = upkeep
        self._lease = lease
        self._book = book
        self._rounds = rounds
        self._metrics = metrics
        self._interval = interval
        self._after = BEGINNING
        self._log = log.bind(source=source)

    async def run_once(self) -> float:
        """Moves the next chunk; asks to go on at once as long as there is more."""
        if not self._lease.trusted or not self._book.owned:
            return self._interval
        if not (await self._rounds.look(self._interval)).failed:
            self._after = BEGINNING
            return self._rounds.rest(self._interval)
        moved, kept, last = await self._upkeep.move_dead(self._lease.require(), self._book.owned, self._after, CHUNK)
        self._after = last or BEGINNING
        for reason, count in Counter(moved).items():
            self._metrics.dead_lettered(count, reason)
            self._log.warning("events.dead_lettered", count=count, reason=reason)
        if kept:
            self._log.error(
                "dead_letters.conflict",
                count=kept,
                reason="another dead letter has the same event_id; requeue or discard it, then these follow",
            )
        return self._rounds.rest(self._interval) if last is None else 0.0


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
            for status, ids in groups.items():
                await self._upkeep.release(self._lease.require(), status, ids, STUCK)
            counts = {status.name.lower(): len(ids) for status, ids in groups.items()}
            self._log.warning("events.recovered", lane=lane, **counts)


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
        for (unknown, status), ids in groups.items():
            reason = UNKNOWN_STATUS.format(unknown)
            await self._upkeep.give_up(self._lease.require(), status, ids, reason)
            self._log.warning("events.given_up", count=len(ids), first_id=ids[0], reason=reason)
        return 0.0 if len(found) == CHUNK else self._interval


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


class GaugeSampler:
    """Samples the backlog of the lanes that this instance owns."""

    name = "gauges"

    def __init__(
        self, sampler: Sampler, book: LaneBook, holds: HoldBook, metrics: Metrics, interval: float = 5.0
    ) -> None:
        self._sampler = sampler
        self._book = book
        self._holds = holds
        self._metrics = metrics
        self._interval = interval

    async def run_once(self) -> float:
        """Reads the gauges."""
        sizes = await self._sampler.sample(self._book.owned)
        self._metrics.queue_size(sizes.counts)
        self._metrics.oldest_age(sizes.oldest_age)
        self._metrics.held_aggregates(len(self._holds))
        return self._interval
