"""Whether the loops move: each beats once a turn, and one that is silent for too long is stale. Pure."""

import time
from collections.abc import Callable


class Pulse:
    """The last signs of life of named loops. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._allowed: dict[str, float] = {}
        self._due: dict[str, float] = {}

    def register(self, name: str, allowed: float) -> None:
        """Watches a loop from now on; one turn of it may take `allowed` seconds."""
        self._allowed[name] = allowed
        self.beat(name)

    def forget(self, name: str) -> None:
        """Watches a loop no longer, because it has ended on purpose."""
        self._allowed.pop(name, None)
        self._due.pop(name, None)

    def beat(self, name: str, rest: float = 0.0) -> None:
        """The loop has made a turn and now waits for `rest` seconds by its own will. Ignored after `forget`."""
        if name in self._allowed:
            self._due[name] = self._clock() + rest + self._allowed[name]

    def stale(self) -> dict[str, float]:
        """The loops that are overdue, and for how many seconds."""
        now = self._clock()
        return {name: now - due for name, due in self._due.items() if now > due}

    def checks(self) -> dict[str, str | None]:
        """Every watched loop: None when it moves, else the reason, as the health page shows it."""
        stale = self.stale()
        return {
            name: f"overdue for {stale[name]:.0f} s; one turn may take {allowed:g} s" if name in stale else None
            for name, allowed in self._allowed.items()
        }
