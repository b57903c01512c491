"""The one class of loop: runs a worker, waits as long as the worker asks, and backs off when it raises."""

import asyncio
from contextlib import suppress
from typing import Final, Protocol

import structlog

from outboxd.backoff import Backoff
from outboxd.errors import DatabaseUnavailableError, LeaseLostError
from outboxd.pulse import Pulse
from outboxd.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

TURN: Final = 120.0
"""Seconds that one turn of a worker may take before it counts as stuck: every wait within it has a shorter bound."""


REMINDER: Final = 60.0
"""Seconds between two log lines about a worker that goes on failing."""


class Worker(Protocol):
    """A job that is done again and again."""

    name: str

    async def run_once(self) -> float:
        """Does the job once; returns the seconds until it wants to run again."""


class DatabaseWatch:
    """Says once that a source's database is away, and once that it is back, whichever of its workers finds it so."""

    def __init__(self, source: str) -> None:
        self._without: set[str] = set()
        self._log = log.bind(source=source)

    def lost(self, worker: str, reason: str) -> None:
        """The worker could not reach it."""
        if not self._without:
            self._log.warning("database.unavailable", worker=worker, reason=reason)
        self._without.add(worker)

    def reached(self, worker: str) -> None:
        """The worker's last turn had no trouble with it."""
        if worker in self._without:
            self._without.remove(worker)
            if not self._without:
                self._log.info("database.recovered")


class Loop:
    """Runs one worker until it is stopped. No exception leaves it: it is logged, counted, and tried again."""

    def __init__(
        self, worker: Worker, pulse: Pulse, metrics: Metrics, source: str, *, backoff: Backoff, watch: DatabaseWatch
    ) -> None:
        self._worker = worker
        self._pulse = pulse
        self._metrics = metrics
        self._backoff = backoff
        self._watch = watch
        self._name = f"{source}.{worker.name}"
        self._log = log.bind(source=source, worker=worker.name)
        self._wake = asyncio.Event()
        self._failures = 0
        self._reported_at: float | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to run."""
        self._pulse.register(self._name, TURN)
        self._task = asyncio.create_task(self._run(), name=self._name)

    def wake(self) -> None:
        """Ends the present rest."""
        self._wake.set()

    async def stop(self) -> None:
        """Cancels the worker where it waits, and returns when it has ended."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._pulse.forget(self._name)

    async def _run(self) -> None:
        while True:
            delay = await self._run_once()
            self._pulse.beat(self._name, rest=delay)
            await self._rest(delay)

    async def _run_once(self) -> float:
        try:
            delay = await self._worker.run_once()
        except DatabaseUnavailableError as error:
            return self._failed(error, expected=True)
        except LeaseLostError as error:
            # The lease keeper tells about it, and puts it right; the others have nothing to do until then.
            self._log.debug("worker.lease_lost", reason=str(error))
            return self._backoff.base
        except Exception as error:
            return self._failed(error, expected=False)
        if self._reported_at is not None:
            self._log.info("worker.recovered", failures=self._failures)
        self._failures, self._reported_at = 0, None
        self._watch.reached(self._worker.name)
        return delay

    def _failed(self, error: Exception, *, expected: bool) -> float:
        self._failures += 1
        self._metrics.worker_failed(self._worker.name)
        if not expected:
            self._report(error)
        else:
            self._watch.lost(self._worker.name, str(error))
        return self._backoff.delay(self._failures)

    def _report(self, error: Exception) -> None:
        """The first failure of a row at once, then one a minute: the others would say the same."""
        now = asyncio.get_running_loop().time()
        if self._reported_at is None or now - self._reported_at >= REMINDER:
            self._reported_at = now
            self._log.error("worker.failed", failures=self._failures, exc_info=error)

    async def _rest(self, seconds: float) -> None:
        """Until the time has passed or somebody wakes it; always lets the others run. Behind a failure nobody does at
        first: a bell rings for every commit, and each turn may be one more connection to a server that is full."""
        deaf = min(seconds, self._backoff.base) if self._failures else 0.0
        await asyncio.sleep(deaf)
        if (seconds := seconds - deaf) > 0:
            # Not wait_for: before Python 3.12 it swallows a cancellation that comes together with the wake.
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
        self._wake.clear()
