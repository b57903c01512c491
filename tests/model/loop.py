"""An event loop whose time stands still until it is told to go on: one for each simulated process."""

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any


class SimulatedClock:
    """The time that loops, leases and the database share, in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class SimulatedLoop(asyncio.AbstractEventLoop):
    """Runs what is ready, and the timers that are due, when it is asked to. Whoever never asks has frozen it."""

    def __init__(self, clock: SimulatedClock) -> None:
        self._clock = clock
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._serial = itertools.count()
        self._tasks: list[asyncio.Task[Any]] = []
        self.errors: list[str] = []
        """What no task has caught."""

    # --- driven from outside

    @property
    def next_timer(self) -> float | None:
        """When the first timer is due."""
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def run(self) -> None:
        """Runs until there is nothing to do at this moment."""
        asyncio._set_running_loop(self)
        try:
            while True:
                while (due := self.next_timer) is not None and due <= self._clock.now:
                    self._ready.append(heapq.heappop(self._timers)[2])
                if not self._ready:
                    return
                handle = self._ready.popleft()
                if not handle.cancelled():
                    handle._run()
        finally:
            asyncio._set_running_loop(None)

    def within(self, function: Callable[[], Any]) -> None:
        """Calls a function that expects a running loop, then runs."""
        self.call_soon(function)
        self.run()

    def end(self) -> None:
        """Cancels all tasks; what they leave behind is of no interest."""
        for task in self._tasks:
            task.cancel()
        self.run()
        self._tasks.clear()
        self._timers.clear()

    # --- what asyncio asks for

    def time(self) -> float:
        return self._clock.now

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._serial), timer))
        return timer

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._clock.now + delay, callback, *args, context=context)

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None
    ) -> "asyncio.Task[Any]":
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks.append(task)
        return task

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time comes."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.errors.append(f"{context.get('message')}: {context.get('exception')!r}")
