"""The bell: wakes the relay when somebody says that events were written, and knows when to look without it."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from outboxd.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

IDLE: Final = 1.0
"""Seconds between two looks while the bell is silent, and would ring."""

ECHO: Final = 0.002
ECHO_FACTOR: Final = 3
"""A commit may be heard of before its rows can be read. So behind a bell the relay looks again after `ECHO` seconds,
then when so many times as long has passed, up to IDLE."""


class Bell:
    """See `ports.Bell`. It decides nothing: a ring that is lost, or one too many, costs a look."""

    def __init__(self, metrics: Metrics, source: str) -> None:
        self._metrics = metrics
        self._log = log.bind(source=source)
        self._hung = False
        self._reason: str | None = None
        self._rang_at = float("-inf")
        self.wake: Callable[[], None] = lambda: None
        """Ends the relay's rest."""

    def pause(self, poll_interval: float) -> float:
        """Seconds until the relay looks again of its own accord, having found nothing."""
        if not self._hung:
            return poll_interval
        since = asyncio.get_running_loop().time() - self._rang_at
        return min(max(IDLE, poll_interval), max(ECHO, since * (ECHO_FACTOR - 1)))

    def hung(self, row_format: str) -> None:
        """It will ring from now on."""
        self._hung, self._reason = True, None
        self._metrics.doorbell_connected(True)
        if row_format == "ROW":
            self._log.info("doorbell.ringing")
        else:
            self._log.warning(
                "doorbell.ringing",
                reason=f"binlog_format is {row_format}: every statement rings; write binlog_format = ROW to the server",
            )
        self._look()

    def ring(self) -> None:
        """Events were written."""
        self._metrics.doorbell_rang()
        self._look()

    def lost(self, reason: str) -> None:
        """It rings no more, until it is hung again."""
        if self._hung or self._reason is None:
            self._log.warning("doorbell.lost", reason=reason)
        self._hung, self._reason = False, reason
        self._metrics.doorbell_connected(False)
        self.wake()

    def _look(self) -> None:
        self._rang_at = asyncio.get_running_loop().time()
        self.wake()
