"""What a scenario is, what it expects, and the list of all."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.scene import Scene

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Scenario:
    """A fault, and what is expected of the daemons in spite of it. Beyond that, always: nothing missing or reordered,
    no traceback, no dead letter but those that the scene names, duplicates no more than can be explained."""

    name: str
    summary: str
    play: "Callable[[Scene], None]"
    attempts: int
    """How many attempts an event may have spent."""
    unknown: bool
    """Whether a send may end without an answer, so that events are sent again. A kill is another explanation. The
    leases, and so the deadlines of sends, are short in such a scenario, and long in any other."""
    cluster: bool
    """Needs three brokers."""
    long: bool
    """Only when asked for, or in a long run."""
    memory: int
    """Bytes that no daemon's resident memory may pass."""


SCENARIOS: dict[str, Scenario] = {}


def scenario(
    *, attempts: int = 0, unknown: bool = False, cluster: bool = False, long: bool = False, memory: int = 150 * MEGABYTE
) -> "Callable[[Callable[[Scene], None]], Callable[[Scene], None]]":
    """Lists a function as a scenario of its name; its docstring's first line is the summary."""

    def register(play: "Callable[[Scene], None]") -> "Callable[[Scene], None]":
        name = play.__name__.replace("_", "-")
        summary = (play.__doc__ or "").strip().splitlines()[0]
        SCENARIOS[name] = Scenario(name, summary, play, attempts, unknown, cluster, long, memory)
        return play

    return register
