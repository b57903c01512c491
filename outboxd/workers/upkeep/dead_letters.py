"""Rows in error, on their way to the dead letters."""

from collections import Counter
from typing import Final

import structlog

from outboxd.lanes import LaneBook
from outboxd.ports import Upkeep
from outboxd.telemetry.metrics import Metrics
from outboxd.workers.lease import Lease
from outboxd.workers.rounds import Rounds
from outboxd.workers.upkeep.chunks import CHUNK

log = structlog.get_logger(__name__)

BEGINNING: Final = (-1, 0)
"""In front of every lane and id."""


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
