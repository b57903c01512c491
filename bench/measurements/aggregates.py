"""A backlog of one aggregate, of some, and of very many."""

from functools import partial
from typing import Final

from bench.contenders import contenders
from bench.measurements import contest
from bench.measurements.contest import Contest
from bench.measurements.measurement import Measurement
from bench.scene import Scene

EVENTS: Final = 30_000
NUMBERS: Final = {"1 aggregate": 1, "100 aggregates": 100, "100,000 aggregates": 100_000}
ONE, MANY = "1 aggregate", "100,000 aggregates"


def measure(scene: Scene) -> Contest:
    """All contenders with each number."""
    events = scene.events(EVENTS)
    with contenders(scene) as found:
        turns = {
            (variant, one.name): partial(one.drain, events=events, aggregates=number)
            for variant, number in NUMBERS.items()
            for one in found
        }
        return contest.hold(scene, turns, scene.fewer_rounds)


MEASUREMENT: Final = Measurement(
    "aggregates", "Number of aggregates", 105, Contest, measure, contest.HEADINGS, contest.rows
)
