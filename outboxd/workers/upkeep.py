"""The maintenance workers: retry scheduler, dead-letter mover, stuck-event recovery, retention, gauge sampler.

All have the same shape, and all work in chunks of at most `CHUNK` rows.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from outboxd.holds import HoldBook
from outboxd.lanes import LaneBook
from outboxd.lifecycle import Happening, RetryPolicy, decide
from outboxd.model import Status
from outboxd.ports import Sampler, Upkeep
from outboxd.telemetry.metrics import Metrics
from outboxd.workers.lease import Lease

log = structlog.get_logger(__name__)

CHUNK: Final = 1000

PAUSE: Final = 0.05
"""Seconds between two chunks of retention: at most 20,000 rows a second, so that writers do not notice."""

STUCK: Final = "stuck: another dispatcher left this event in processing"


class RetryScheduler:
    """Makes due retries new again, while their lane is free: so a promotion and a hold never cross."""

    name = "retry"

    def __init__(self, upkeep: Upkeep, lease: Lease, book: LaneBook, holds: HoldBook, interval: float) -> None:
        self._upkeep = upkeep
        self._lease = lease
        self._book = book
        self._holds = holds
        self._interval = interval
        self.promoted: Callable[[], None] = lambda: None
        """Called when there is something new to read."""

    async def run_once(self) -> float:
        """Promotes what is due in the lanes that are free; the others are kept for it, and looked at again soon."""
        if not self._lease.trusted or not self._book.owned:
            return self._interval
        due = await self._upkeep.due_lanes(self._book.owned)
        reserved = self._book.reserve(due)
        try:
            for lane in reserved:
                await self._promote(lane)
        finally:
            self._book.release(reserved)
            if reserved:
                self.promoted()
        return self._interval if len(reserved) == len(due) else 0.02

    async def _promote(self, lane: int) -> None:
        while True:
            due = await self._upkeep.due([lane], CHUNK)
            if due:
                self._holds.forget([lane])
                await self._upkeep.promote(self._lease.require(), [event.id for event in due])
            if len(due) < CHUNK:
                return


class DeadLetterMover:
    """Moves rows in error to the dead letters."""

    name = "dead_letters"

    def __init__(
        self, upkeep: Upkeep, lease: Lease, book: LaneBook, metrics: Metrics, *, source: str, interval: float
    ) -> None:
        self._upkeep = upkeep
        self._lease = lease
        self._book = book
        self._metrics = metrics
        self._interval = interval
        self._log = log.bind(source=source)

    async def run_once(self) -> float:
        """Moves all there is, chunk by chunk."""
        after: tuple[int, int] | None = (-1, 0)
        while after is not None and self._lease.trusted and self._book.owned:
            moved, kept, after = await self._upkeep.move_dead(self._lease.require(), self._book.owned, after, CHUNK)
            for reason, count in Counter(moved).items():
                self._metrics.dead_lettered(count, reason)
                self._log.warning("events.dead_lettered", count=count, reason=reason)
            if kept:
                self._log.error(
                    "dead_letters.conflict",
                    count=kept,
                    reason="another dead letter has the same event_id; requeue or discard it, then these follow",
                )
        return self._interval


class StuckRecovery:
    """Takes back rows that another dispatcher left in processing."""

    name = "recovery"

    def __init__(
        self,
        upkeep: Upkeep,
        lease: Lease,
        book: LaneBook,
        policy: RetryPolicy,
        source: str,
        *,
        timeout: float,
        interval: float,
    ) -> None:
        self._upkeep = upkeep
        self._lease = lease
        self._book = book
        self._policy = policy
        self._timeout = timeout
        self._interval = interval
        self._log = log.bind(source=source)

    async def run_once(self) -> float:
        """Releases all that is stuck, chunk by chunk."""
        while self._lease.trusted and self._book.owned:
            stuck = await self._upkeep.stuck(self._book.owned, self._timeout, CHUNK)
            groups: defaultdict[Status, list[int]] = defaultdict(list)
            for event in stuck:
                transition = decide(Status.PROCESSING, Happening.STUCK, event.attempt_count, self._policy)
                groups[transition.status].append(event.id)
            for status, ids in groups.items():
                await self._upkeep.release(self._lease.require(), status, ids, STUCK)
            if stuck:
                self._log.warning(
                    "events.recovered", **{status.name.lower(): len(ids) for status, ids in groups.items()}
                )
            if len(stuck) < CHUNK:
                break
        return self._interval


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

    async def run_once(self) -> float:
        """Goes through the primary key from its low end, until nothing old is left."""
        if self._sent is not None:
            await self._sweep(self._sent, self._upkeep.expired_sent, self._upkeep.delete_sent)
        if self._dead_letters is not None:
            await self._sweep(self._dead_letters, self._upkeep.expired_dead, self._upkeep.delete_dead)
        return self._interval

    async def _sweep(
        self,
        age: float,
        expired: Callable[[int, float, int], Awaitable[tuple[list[int], int | None]]],
        delete: Callable[[list[int]], Awaitable[int]],
    ) -> None:
        after: int | None = 0
        while after is not None and self._lease.trusted and 0 in self._book.owned:
            ids, after = await expired(after, age, CHUNK)
            if ids:
                await delete(ids)
            await asyncio.sleep(PAUSE)


class GaugeSampler:
    """Samples the backlog of the lanes that this instance owns."""

    name = "gauges"

    def __init__(self, sampler: Sampler, book: LaneBook, metrics: Metrics, interval: float = 5.0) -> None:
        self._sampler = sampler
        self._book = book
        self._metrics = metrics
        self._interval = interval

    async def run_once(self) -> float:
        """Reads the gauges."""
        sizes = await self._sampler.sample(self._book.owned)
        self._metrics.queue_size(sizes.counts)
        self._metrics.oldest_age(sizes.oldest_age)
        return self._interval
