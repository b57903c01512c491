"""A backlog of one aggregate, of some, and of very many."""

from typing import Final

from bench.backlog import PAYLOAD
from bench.measurements import contest
from bench.measurements.contest import Contest
from bench.measurements.measurement import Measurement
from bench.scene import Scene

EVENTS: Final = 30_000
NUMBERS: Final = {"1 aggregate": 1, "100 aggregates": 100, "100,000 aggregates": 100_000}
ONE, MANY = "1 aggregate", "100,000 aggregates"


def measure(scene: Scene) -> Contest:
    """The bare loop and outboxd."""
    events = scene.events(EVENTS)
    turns = {
        (variant, program.name): contest.turn(scene, program, events=events, aggregates=number, payload=PAYLOAD)
        for variant, number in NUMBERS.items()
        for program in (scene.bare_loop, scene.outboxd())
    }
    return contest.hold(scene, turns, scene.fewer_rounds)


MEASUREMENT: Final = Measurement(
    "aggregates", "Number of aggregates", 60, Contest, measure, contest.HEADINGS, contest.rows
)
