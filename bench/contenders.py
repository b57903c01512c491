"""Who is measured beside outboxd: the bare loop, and the peer that a user would pick, Debezium's outbox router."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.backlog import PAYLOAD
from bench.debezium import (
    Crash,
    Debezium,
    Idle,
    measure_debezium_drain,
    measure_debezium_idle,
    measure_debezium_kill,
    measure_debezium_latency,
    measure_debezium_start,
)
from bench.debezium_worker import provide
from bench.drain import Drain
from bench.latency import Latency
from bench.measurements import contest
from bench.program import Outboxd, Program
from bench.scene import Scene
from tests.servers import mysqlclient
from tests.servers.cache import UnavailableError


@dataclass(frozen=True)
class Peer:
    """Debezium's connector, with default settings or tuned. Each measurement starts a worker and warms it."""

    scene: Scene
    tuned: bool

    @property
    def name(self) -> str:
        """As the tables call it."""
        return Debezium(self.scene.server, self.scene.kafka, self._folder, self.tuned).name

    @property
    def _folder(self) -> Path:
        folder = self.scene.folder / "debezium" / self.scene.server.product / ("tuned" if self.tuned else "default")
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def drain(self, events: int, aggregates: int) -> Drain:
        """A backlog. Its task is stopped while that is written: one that is paused reads ahead."""
        return measure_debezium_drain(
            self.scene.server,
            self.scene.kafka,
            self._folder,
            events=events,
            aggregates=aggregates,
            tuned=self.tuned,
            hold="stop",
        )

    def latency(self, per_second: int, seconds: float) -> Latency:
        """From COMMIT to the consumer."""
        scene = self.scene
        return measure_debezium_latency(
            scene.server, scene.kafka, self._folder, per_second=per_second, seconds=seconds, tuned=self.tuned
        )

    def start(self) -> float:
        """Seconds to the first delivery."""
        return measure_debezium_start(self.scene.server, self.scene.kafka, self._folder, tuned=self.tuned)

    def idle(self, seconds: float) -> Idle:
        """With nothing to do."""
        return measure_debezium_idle(
            self.scene.server, self.scene.kafka, self._folder, seconds=seconds, tuned=self.tuned
        )

    def kill(self, events: int, aggregates: int) -> Crash:
        """kill -9 in the middle of a backlog."""
        scene = self.scene
        return measure_debezium_kill(
            scene.server, scene.kafka, self._folder, events=events, aggregates=aggregates, tuned=self.tuned
        )


def peers(scene: Scene, *, tuned: Sequence[bool] = (False, True)) -> Sequence[Peer]:
    """Those that can be had for the scene's database: with default settings, and tuned."""
    if not scene.peers:
        return ()
    try:
        provide(scene.server.product)
    except UnavailableError as reason:
        scene.tell(f"NOT MEASURED beside Debezium: {reason}")
        return ()
    return [Peer(scene, one) for one in tuned]


def fast_driver(scene: Scene) -> Sequence[Outboxd]:
    """The daemon by the driver in C, where that is installed."""
    try:
        mysqlclient.find()
    except UnavailableError as reason:
        scene.tell(f"NOT MEASURED by mysqlclient: {reason}")
        return ()
    return [replace(scene.outboxd(), name="outboxd, mysqlclient", driver="mysql+mysqldb")]


def contenders(scene: Scene, *, events: int, aggregates: int) -> Mapping[contest.Turn, Callable[[], Drain]]:
    """By variant and program: a function that drains such a backlog once."""
    programs: Sequence[Program] = (scene.bare_loop, scene.outboxd(), *fast_driver(scene))
    turns = {
        ("", program.name): contest.turn(scene, program, events=events, aggregates=aggregates, payload=PAYLOAD)
        for program in programs
    }
    for peer in peers(scene):
        turns["", peer.name] = lambda peer=peer: peer.drain(events, aggregates)  # type: ignore[misc]
    return turns
