"""A backlog: outboxd beside the bare loop and its peers."""

from typing import Final

from bench.contenders import contenders
from bench.measurements import contest
from bench.measurements.contest import Contest
from bench.measurements.measurement import Measurement
from bench.scene import Scene

EVENTS: Final = 100_000
AGGREGATES: Final = 1000


def measure(scene: Scene) -> Contest:
    """Each contender drains the same backlog."""
    events = scene.events(EVENTS)
    return contest.hold(scene, contenders(scene, events=events, aggregates=AGGREGATES), scene.rounds)


MEASUREMENT: Final = Measurement("drain", "Drain of a backlog", 190, Contest, measure, contest.HEADINGS, contest.rows)
