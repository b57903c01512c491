"""From the start of the process to the first delivery."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from bench.drain import measure_drain
from bench.measurements.measurement import Measurement
from bench.scene import Scene


@dataclass(frozen=True)
class Start:
    """Seconds, round by round."""

    seconds: list[float]

    @property
    def median(self) -> float:
        """The middle one."""
        return median(self.seconds)


def measure(scene: Scene) -> Start:
    """One event waits in the table. A first start, which finds nothing in the system's caches, does not count."""
    seconds = [
        measure_drain(
            scene.outboxd(), scene.server, scene.kafka, scene.log("start"), events=1, aggregates=1
        ).first_delivery_seconds
        for _ in range(scene.rounds + 1)
    ]
    return Start(seconds[1:])


def rows(figures: Start) -> list[Sequence[str]]:
    """For a table."""
    return [(f"{figures.median:.2f} s", " ".join(f"{seconds:.2f}" for seconds in figures.seconds))]


MEASUREMENT: Final = Measurement("start", "Start to first delivery", 15, Start, measure, ("median", "rounds"), rows)
