"""Settles batches: writes what became of each event, and tells the hold book, the log and the metrics."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from outboxd.backoff import Backoff
from outboxd.errors import DatabaseUnavailableError
from outboxd.model import Event, Status
from outboxd.ports import Rejection, Report
from outboxd.settlement import Plan, plan
from outboxd.telemetry.metrics import LATENCY_SAMPLES, Metrics
from outboxd.workers.relay.batch import Batch
from outboxd.workers.relay.parts import Parts
from outboxd.workers.relay.suspects import Suspects

log = structlog.get_logger(__name__)

SETTLE_BACKOFF: Final = Backoff(base=0.1, max=2.0, jitter=0.3)


class Settling:
    """The last stretch of every batch of a relay."""

    def __init__(self, parts: Parts, suspects: Suspects, metrics: Metrics, source: str) -> None:
        self._ = parts
        self._suspects = suspects
        self._metrics = metrics
        self._log = log.bind(source=source)
        self._waiting = False

    async def settle(self, batch: Batch, report: Report) -> None:
        """Returns when all is written. Raises LeaseLostError."""
        decided = plan(report, batch.held, self._.policy)
        if decided.sent:
            await self._persist(lambda: self._.settler.sent(decided.sent, batch.asked_at))
            self._measure(batch, report.delivered)
        if decided.fenced:
            rejected = (batch.instance, decided.rejections, decided.holds, batch.asked_at)
            await self._persist(lambda: self._.settler.reject(*rejected))
            self._note(decided)
        self._count(batch, report, decided)
        undelivered = [*report.unsent, *report.unknown]
        if undelivered:
            await self._persist(lambda: self._suspects.unmark(batch, undelivered))
        else:
            await self._persist(lambda: self._suspects.forgive(batch))

    async def _persist(self, write: Callable[[], Awaitable[object]]) -> None:
        """Repeats a write until the database has answered it: every write here may be done twice."""
        failures = 0
        while True:
            try:
                await write()
            except DatabaseUnavailableError as error:
                failures += 1
                if not self._waiting:
                    self._log.warning("settle.waiting", reason=str(error))
                self._waiting = True
                await asyncio.sleep(SETTLE_BACKOFF.delay(failures))
            else:
                self._waiting = False
                return

    def _note(self, decided: Plan) -> None:
        for rejection in decided.rejections:
            self._note_rejection(rejection)
        for hold in decided.holds:
            self._.holds.add(hold.events)
            self._metrics.held(len(hold.events))

    def _note_rejection(self, rejection: Rejection) -> None:
        retry, count = rejection.status is Status.RETRY, len(rejection.events)
        if retry:
            self._.holds.add(rejection.events)
        else:
            self._.holds.add_failed(rejection.events)
        self._log.warning(
            "events.retrying" if retry else "events.given_up",
            count=count,
            first_id=rejection.events[0].id,
            reason=rejection.last_error,
            retry_in=round(rejection.delay, 3) if retry else None,
        )
        self._metrics.failed(count, (rejection.last_error or "").partition(":")[0])
        if retry:
            self._metrics.retried(count)

    def _count(self, batch: Batch, report: Report, decided: Plan) -> None:
        rejected = sum(len(rejection.events) for rejection in decided.rejections)
        self._metrics.processed(len(report.delivered) + rejected)
        self._metrics.published(len(report.delivered))
        repeated = len(report.unknown) + (len(batch.events) if batch.suspect else 0)
        if repeated:
            self._metrics.duplicates_suspected(repeated)
        self._metrics.processing_duration(asyncio.get_running_loop().time() - batch.read_at)

    def _measure(self, batch: Batch, delivered: list[Event]) -> None:
        since_read = asyncio.get_running_loop().time() - batch.read_at
        for event in delivered[:: max(1, len(delivered) // LATENCY_SAMPLES)]:
            self._metrics.latency(max(0.0, event.age_us / 1_000_000 + since_read))
