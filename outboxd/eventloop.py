"""The event loop, with guards that look around each time it comes back from waiting, before anything else runs.

A process that was frozen wakes in the middle of its wait. Whatever could be written to a socket then, would be written
before any timer or task of ours has run; a guard comes before that.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

Guards: TypeAlias = list[Callable[[], None]]
"""Called again and again, so they must be quick; and they must not raise."""


class GuardedSelector(selectors.DefaultSelector):
    """The platform's best selector, and the guards behind each wait."""

    def __init__(self, guards: Guards) -> None:
        super().__init__()
        self._guards = guards

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Waits, then asks the guards."""
        ready = super().select(timeout)
        for guard in self._guards:
            guard()
        return ready


def run(main: Coroutine[Any, Any, None], guards: Guards) -> None:
    """As `asyncio.run`, with guards; more may be added while it runs."""
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(GuardedSelector(guards))) as runner:
        runner.run(main)
