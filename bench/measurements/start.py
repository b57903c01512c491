"""From the start of the process to the first delivery."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from bench.contenders import peers
from bench.drain import measure_drain
from bench.measurements.measurement import Measurement
from bench.program import Program
from bench.scene import Scene


@dataclass(frozen=True)
class Start:
    """Seconds, round by round."""

    program: str
    seconds: list[float]

    @property
    def median(self) -> float:
        """The middle one."""
        return median(self.seconds)


@dataclass(frozen=True)
class Starts:
    """All programs."""

    starts: list[Start]

    def of(self, program: str) -> Start | None:
        """One of them."""
        return next((one for one in self.starts if one.program == program), None)


def measure(scene: Scene) -> Starts:
    """One event waits in the table."""
    starts = [_start(scene, program) for program in (scene.bare_loop, scene.outboxd())]
    with peers(scene) as others:
        return Starts([*starts, *(Start(peer.name, [peer.first_delivery()]) for peer in others)])


def _start(scene: Scene, program: Program) -> Start:
    """A first start, which finds nothing in the system's caches, does not count."""
    drains = [
        measure_drain(program, scene.server, scene.kafka, scene.log("start"), events=1, aggregates=1)
        for _ in range(scene.rounds + 1)
    ]
    return Start(program.name, [drain.first_delivery_seconds for drain in drains[1:]])


def rows(figures: Starts) -> Sequence[Sequence[str]]:
    """For a table."""
    return [
        (one.program, f"{one.median:.2f} s", " ".join(f"{seconds:.2f}" for seconds in one.seconds))
        for one in figures.starts
    ]


MEASUREMENT: Final = Measurement(
    "start",
    "Start to first delivery",
    lambda _, rounds: 15 + 7 * (rounds + 1),
    Starts,
    measure,
    ("program", "median", "rounds"),
    rows,
)
