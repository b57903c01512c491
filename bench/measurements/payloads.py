"""A backlog of larger events."""

from functools import partial
from typing import Final

from bench.bare_loop import BATCH_SIZE
from bench.contenders import outboxd, peers
from bench.measurements import contest
from bench.measurements.contest import Contest
from bench.measurements.measurement import Measurement
from bench.program import BareLoop
from bench.scene import Scene, fewer
from bench.stage import Contender, Fresh

SIZES: Final = {"250 B": 250, "1 KB": 1000, "10 KB": 10_000, "100 KB": 100_000}
EVENTS: Final = 20_000
MOST_BYTES: Final = 100_000_000
"""Of all payloads of a backlog: there are fewer large events."""
AGGREGATES: Final = 1000
BATCH_BYTES: Final = 8 * 2**20
"""Of the bare loop: with so much it has several batches in flight here too."""


def measure(scene: Scene) -> Contest:
    """All contenders with payloads of all sizes."""
    turns = {}
    with peers(scene) as others:
        for variant, size in SIZES.items():
            events = scene.events(min(EVENTS, MOST_BYTES // size), least=50)
            bare_loop = Fresh(scene, BareLoop(max(1, min(BATCH_SIZE, BATCH_BYTES // size))))
            contenders: list[Contender] = [bare_loop, outboxd(scene), *others]
            for one in contenders:
                turns[variant, one.name] = partial(one.drain, events=events, aggregates=AGGREGATES, payload=size)
        return contest.hold(scene, turns, scene.fewer_rounds)


MEASUREMENT: Final = Measurement(
    "payloads",
    "Size of the payload",
    lambda scale, rounds: 25 + fewer(rounds) * (50 + 42 * scale),
    Contest,
    measure,
    contest.HEADINGS,
    contest.rows,
)
