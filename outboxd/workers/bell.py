"""The bell: wakes the relay when somebody says that events were written, and knows when to look without it."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from outboxd.telemetry.metrics import Metrics
from outboxd.workers.rounds import Rounds

log = structlog.get_logger(__name__)

IDLE: Final = 1.0
"""Seconds between two looks while somebody else looks out: a bell that would ring, or the reader's thread."""

ECHO: Final = 0.002
ECHO_FACTOR: Final = 3
"""A commit may be heard of before its rows can be read. So behind a ring the relay looks again after `ECHO` seconds,
then each time that so many times as much has passed, up to IDLE."""

ANSWERED: Final = 0.02
"""What is found answers the ring, so the look behind it, for the commits of the same moment, has so many seconds."""

DEAF: Final = 3
"""So many times in a row something was found that no ring told of: such a bell is not waited for."""


class Bell:
    """See `ports.Bell`. It decides nothing: a ring that is lost, or one too many, costs a look."""

    def __init__(self, rounds: Rounds, metrics: Metrics, source: str) -> None:
        self._rounds = rounds
        self._metrics = metrics
        self._log = log.bind(source=source)
        self._hung = False
        self._missed = 0
        self._unheard = False
        self._reason: str | None = None
        self._rang_at = float("-inf")
        self._stirred = True
        self.wake: Callable[[], None] = lambda: None
        """Ends the relay's rest."""

    # --- what the relay asks

    @property
    def trusted(self) -> bool:
        """Whether it is enough to look when it rings, and once in a while."""
        return self._hung and self._missed < DEAF

    async def nothing_new(self) -> bool:
        """Whether there is nothing to read: the bell is silent, nobody has stirred, and a look has found nothing."""
        stirred, self._stirred, self._unheard = self._stirred, False, False
        if stirred or not self.trusted or self._since() < IDLE:
            return False
        # What is in flight is new, too: whether this is more than that, only a read can tell.
        self._unheard = (await self._rounds.look(IDLE)).new
        return not self._unheard

    def pause(self, poll_interval: float, *, found: bool) -> float:
        """Seconds until the relay looks again of its own accord, having found something, and all there was, or not."""
        if found and self._unheard:
            self._miss()
        self._unheard = False
        if not self.trusted:
            return poll_interval
        idle = max(IDLE, poll_interval)
        echo = max(ANSWERED if found else ECHO, self._since() * (ECHO_FACTOR - 1))
        return echo if echo < idle else self._rounds.rest(idle)

    def _since(self) -> float:
        return asyncio.get_running_loop().time() - self._rang_at

    def _miss(self) -> None:
        self._missed += 1
        if self._missed == DEAF:
            self._metrics.doorbell_connected(False)
            self._log.warning(
                "doorbell.deaf",
                reason="events were written of which the binary log did not tell; see binlog_ignore_db, binlog_do_db "
                "and sql_log_bin; or rows were made new by an UPDATE, which does not ring",
            )

    # --- what it is told

    def expect(self) -> None:
        """There is more to read, as a read has shown."""
        self._stirred = True

    def stir(self) -> None:
        """There may be something to read, for another reason than a write."""
        self._stirred = True
        self.wake()

    def hung(self, row_format: str) -> None:
        """It will ring from now on."""
        self._hung, self._reason, self._missed = True, None, 0
        if row_format == "ROW":
            self._log.info("doorbell.ringing")
        else:
            self._log.warning(
                "doorbell.ringing",
                reason=f"binlog_format is {row_format}: every statement rings; write binlog_format = ROW to the server",
            )
        self._heard()

    def ring(self, *, certain: bool = True) -> None:
        """Events were written; or perhaps they were, which does not show that it hears of those that are."""
        self._metrics.doorbell_rang()
        if certain:
            self._heard()
        else:
            self._rang_at = asyncio.get_running_loop().time()
            self.stir()

    def lost(self, reason: str) -> None:
        """It rings no more, until it is hung again."""
        if reason != self._reason:
            self._log.warning("doorbell.lost", reason=reason)
        self._hung, self._reason = False, reason
        self._metrics.doorbell_connected(False)
        self.stir()

    def _heard(self) -> None:
        if self._missed >= DEAF:
            self._log.info("doorbell.ringing")
        self._missed = 0
        self._rang_at = asyncio.get_running_loop().time()
        self._metrics.doorbell_connected(True)
        self.stir()
