"""Who drains the backlog: the list to which a peer is added."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from bench.backlog import PAYLOAD
from bench.drain import Drain
from bench.measurements import contest
from bench.scene import Scene


@contextmanager
def contenders(scene: Scene, *, events: int, aggregates: int) -> Iterator[Mapping[contest.Turn, Callable[[], Drain]]]:
    """By variant and program: a function that drains such a backlog once."""
    programs = [scene.bare_loop, scene.outboxd()]
    yield {
        ("", program.name): contest.turn(scene, program, events=events, aggregates=aggregates, payload=PAYLOAD)
        for program in programs
    }
