"""A sink plug-in for the tests: it delivers to standard output, and dies of some events."""

import os
import signal
from collections.abc import Callable, Sequence

from outboxd.model import Event
from outboxd.ports import Report
from outboxd.sinks.stdout import StdoutSink


class KillerSink(StdoutSink):
    """kills its process with SIGKILL at an event of type `deadly`, after having delivered what stands before it."""

    async def publish(self, events: Sequence[Event], permitted: Callable[[], bool]) -> Report:
        """Delivers, or dies."""
        before = [event for event in events if event.event_type != "deadly"]
        if len(before) < len(events):
            await super().publish(events[: [event.event_type for event in events].index("deadly")], permitted)
            os.kill(os.getpid(), signal.SIGKILL)
        return await super().publish(events, permitted)
