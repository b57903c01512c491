"""Who is measured beside outboxd: the bare loop, and the peers, which plug in here."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from bench.backlog import PAYLOAD
from bench.drain import Drain
from bench.latency import Latency
from bench.measurements import contest
from bench.scene import Scene


class Peer(Protocol):
    """Another program that delivers an outbox, and that is started and filled in its own way."""

    name: str

    def drain(self, scene: Scene, *, events: int, aggregates: int) -> Drain:
        """Drains a backlog."""

    def latency(self, scene: Scene, *, per_second: int, seconds: float) -> Latency:
        """From COMMIT to the consumer."""


def peers(_scene: Scene) -> Sequence[Peer]:
    """THE PLACE WHERE A PEER PLUGS IN: those that can be had for the scene's database."""
    return ()


@contextmanager
def contenders(scene: Scene, *, events: int, aggregates: int) -> Iterator[Mapping[contest.Turn, Callable[[], Drain]]]:
    """By variant and program: a function that drains such a backlog once."""
    turns = {
        ("", program.name): contest.turn(scene, program, events=events, aggregates=aggregates, payload=PAYLOAD)
        for program in (scene.bare_loop, scene.outboxd())
    }
    for peer in peers(scene):
        turns["", peer.name] = lambda peer=peer: peer.drain(scene, events=events, aggregates=aggregates)
    yield turns
