"""A backlog: outboxd beside the bare loop and its peers."""

from functools import partial
from typing import Final

from bench.contenders import bare_loop, fast_driver, outboxd, peers
from bench.measurements import contest
from bench.measurements.contest import Contest
from bench.measurements.measurement import Measurement
from bench.scene import Scene
from bench.stage import Contender

EVENTS: Final = 100_000
AGGREGATES: Final = 1000


def measure(scene: Scene) -> Contest:
    """Each contender drains the same backlog."""
    events = scene.events(EVENTS)
    with peers(scene, tuned=(False, True)) as others:
        contenders: list[Contender] = [bare_loop(scene), outboxd(scene), *fast_driver(scene), *others]
        turns = {("", one.name): partial(one.drain, events=events, aggregates=AGGREGATES) for one in contenders}
        return contest.hold(scene, turns, scene.rounds)


MEASUREMENT: Final = Measurement(
    "drain",
    "Drain of a backlog",
    lambda scale, rounds: 60 + (3 + 5 * rounds) * (3.5 + 11.5 * scale),
    Contest,
    measure,
    contest.HEADINGS,
    contest.rows,
)
