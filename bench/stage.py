"""Who is measured, and where: one interface for outboxd, its limit and its peers, so that all get the same turns."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Protocol

from bench.backlog import PAYLOAD, WrittenEvent, migrated_database
from bench.drain import Drain, measure_drain, measure_start
from bench.program import Process, Program, Usage
from bench.scene import Scene


class Stage(Protocol):
    """A contender in a database of its own, with an empty table; it delivers nothing yet."""

    @property
    def database(self) -> str:
        """Its name."""

    @property
    def connection(self) -> Any:
        """To that database."""

    def delivering(self) -> AbstractContextManager[Process]:
        """It begins to deliver what waits, and ends with the block."""

    def ready(self) -> AbstractContextManager[Process]:
        """Likewise, from when it is ready to deliver what is written then."""


class Contender(Protocol):
    """Something that delivers an outbox."""

    @property
    def name(self) -> str:
        """As the tables call it."""

    def stage(self) -> AbstractContextManager[Stage]:
        """Where it has a turn. Not two at once."""

    def run_up(self, events: int, /) -> Sequence[WrittenEvent]:
        """Small events that go ahead of so many and are not measured: until it is as fast as it will be."""

    def drain(self, *, events: int, aggregates: int, payload: int = PAYLOAD) -> Drain:
        """It drains a backlog, on a stage of its own. Raises RuntimeError when it fails."""


@dataclass(frozen=True)
class Fresh:
    """The daemon or the bare loop: a new process in a new database for each turn."""

    scene: Scene
    program: Program

    @property
    def name(self) -> str:
        """See `Contender`."""
        return self.program.name

    @contextmanager
    def stage(self) -> Iterator["FreshStage"]:
        """See `Contender`."""
        server = self.scene.server
        with migrated_database(server) as database, server.connect(database) as connection:
            yield FreshStage(self.scene, self.program, database, connection)

    def run_up(self, _events: int, /) -> Sequence[WrittenEvent]:
        """See `Contender`. It is as fast at once as it will be."""
        return ()

    def drain(self, *, events: int, aggregates: int, payload: int = PAYLOAD) -> Drain:
        """See `Contender`. The first of a program warms the servers up, and does not count."""
        if self.name not in self.scene.starts:
            self._drain(events, aggregates, payload)
            self.scene.starts[self.name] = self._start()
        return self._drain(events, aggregates, payload)

    def _drain(self, events: int, aggregates: int, payload: int) -> Drain:
        scene = self.scene
        return measure_drain(
            self.program,
            scene.server,
            scene.kafka,
            scene.log(self.program),
            events=events,
            aggregates=aggregates,
            payload=payload,
        )

    def _start(self) -> Usage:
        """The median of several."""
        scene = self.scene
        starts = [
            measure_start(self.program, scene.server, scene.kafka, scene.log(self.program)) for _ in range(scene.rounds)
        ]
        return Usage(median(start.cpu_seconds for start in starts), max(start.peak_rss for start in starts))


@dataclass(frozen=True)
class FreshStage:
    """The stage of a `Fresh`. Whatever it starts is one more process on the same table."""

    scene: Scene
    program: Program
    database: str
    connection: Any

    def delivering(self) -> AbstractContextManager[Process]:
        """See `Stage`."""
        return self._run(self.program.start)

    def ready(self) -> AbstractContextManager[Process]:
        """See `Stage`."""
        return self._run(self.program.start_ready)

    @contextmanager
    def _run(self, start: Callable[[str, str, Path], Process]) -> Iterator[Process]:
        scene = self.scene
        url, log = scene.server.url(self.database), scene.log(self.program)
        with start(url, scene.kafka.bootstrap, log) as process:
            yield process
            process.stop()
