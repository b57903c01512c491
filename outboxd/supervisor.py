"""The daemon: starts every source apart from the others, runs until a signal, and stops in order."""

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

import structlog

from outboxd import systemd
from outboxd.backoff import Backoff
from outboxd.errors import DatabaseUnavailableError

log = structlog.get_logger(__name__)

CONNECT: Final = Backoff(base=0.5, max=10.0, jitter=0.3)

SECOND_SIGNAL: Final = 130

ECHO: Final = 0.2
"""Seconds within which a second signal is the first one again: `timeout`, and shells, send it to process and group."""


class Crew(Protocol):
    """What a source runs."""

    def start(self) -> None:
        """Begins to work."""

    def readiness(self) -> dict[str, str | None]:
        """What it needs, and why it is missing."""

    def paused_topics(self) -> dict[str, str]:
        """What of it does not go on while the rest does, and why."""


class Source(Protocol):
    """A source that is open."""

    @property
    def crew(self) -> Crew:
        """Its workers."""

    async def close(self) -> None:
        """Stops it."""


class Supervisor:
    """Runs sources. `openers` open each by its name, and may be called again when the database was not there."""

    def __init__(self, openers: Mapping[str, Callable[[], Awaitable[Source]]]) -> None:
        self._openers = openers
        self._sources: dict[str, Source] = {}
        self._missing: dict[str, str] = dict.fromkeys(openers, "not connected yet")
        self._stop = asyncio.Event()
        self._signalled_at = 0.0

    async def run(self) -> None:
        """Until a signal. Raises what makes a source impossible: SchemaError, UnsupportedServerError, ConfigError."""
        self._listen()
        stopped = asyncio.create_task(self._stop.wait())
        starting = [asyncio.create_task(self._start(name)) for name in self._openers]
        try:
            await self._until_started_or_stopped(starting, stopped)
            await stopped
        finally:
            for task in (*starting, stopped):
                task.cancel()
            await asyncio.gather(*starting, stopped, return_exceptions=True)
            await asyncio.gather(*(source.close() for source in self._sources.values()))

    @staticmethod
    async def _until_started_or_stopped(starting: list[asyncio.Task[None]], stopped: asyncio.Task[bool]) -> None:
        pending: set[asyncio.Task[None] | asyncio.Task[bool]] = {*starting, stopped}
        while pending != {stopped} and not stopped.done():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped}:
                task.result()

    async def _start(self, name: str) -> None:
        failures = 0
        while True:
            try:
                source = await self._openers[name]()
            except DatabaseUnavailableError as error:
                failures += 1
                self._missing[name] = str(error)
                if failures == 1:
                    log.warning("database.unavailable", source=name, reason=str(error))
                await asyncio.sleep(CONNECT.delay(failures))
                continue
            self._sources[name] = source
            del self._missing[name]
            source.crew.start()
            log.info("source.started", source=name)
            return

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)

    def _signalled(self, number: signal.Signals) -> None:
        now = asyncio.get_running_loop().time()
        if self._stop.is_set() and now - self._signalled_at < ECHO:
            return
        if self._stop.is_set():
            log.warning("daemon.aborted", signal=number.name)
            logging.shutdown()  # the last lines, which os._exit would leave unwritten
            os._exit(SECOND_SIGNAL)
        self._signalled_at = now
        log.info("daemon.stopping", signal=number.name)
        systemd.notify(stopping=True)
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """A signal has come."""
        return self._stop.is_set()

    def paused_topics(self) -> dict[str, str]:
        """The topics of all sources that are paused while others go on, `<source>.<topic>`, and why."""
        return {
            f"{name}.{topic}": reason
            for name, source in self._sources.items()
            for topic, reason in source.crew.paused_topics().items()
        }

    def readiness(self) -> dict[str, str | None]:
        """The checks of all sources, `<source>.<check>`."""
        checks: dict[str, str | None] = {f"{name}.database": reason for name, reason in self._missing.items()}
        for name, source in self._sources.items():
            checks |= {f"{name}.{check}": reason for check, reason in source.crew.readiness().items()}
        if self.stopping:
            checks["daemon"] = "stopping"
        return checks
