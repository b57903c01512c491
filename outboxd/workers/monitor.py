"""The sink monitor: knows whether the sink can be reached, also while there is nothing to deliver."""

from typing import Final

import structlog

from outboxd.errors import Failure, SinkUnavailableError
from outboxd.ports import Sink

log = structlog.get_logger(__name__)

INTERVAL: Final = 10.0
RETRY: Final = 1.0


class SinkMonitor:
    """The worker. It decides nothing: readiness shows what it found."""

    name = "sink"

    def __init__(self, sink: Sink, source: str) -> None:
        self._sink = sink
        self._log = log.bind(source=source)
        self.reached = False
        """Whether the last check succeeded."""
        self.failure: Failure | None = None
        """Why it did not."""

    async def run_once(self) -> float:
        """One check; a log line at each change."""
        try:
            await self._sink.check()
        except SinkUnavailableError as error:
            if self.failure is None or self.failure.code != error.failure.code:
                self._log.warning("sink.unreachable", cause=error.failure.code, reason=error.failure.text)
            self.reached, self.failure = False, error.failure
            return RETRY
        if not self.reached:
            self._log.info("sink.reached")
        self.reached, self.failure = True, None
        return INTERVAL
