"""What the relay asks of a sink. A plug-in needs nothing else."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from outboxd.errors import Failure
from outboxd.model import Event


@dataclass(slots=True)
class Report:
    """What became of the events of one `publish`. Each event of the call stands in exactly one of the lists."""

    delivered: list[Event] = field(default_factory=list)
    failed: list[tuple[Event, Failure]] = field(default_factory=list)
    """Refused for their own sake (kinds PERMANENT and CAPPED)."""
    behind: list[tuple[Event, Event]] = field(default_factory=list)
    """Not sent, because an earlier event of their aggregate (the second of the pair) failed and may succeed later."""
    unsent: list[Event] = field(default_factory=list)
    """Never handed to the broker; nothing is known against them."""
    unknown: list[Event] = field(default_factory=list)
    """Handed over, but no answer came in time: they may or may not have arrived."""
    trouble: Failure | None = None
    """Why events are unsent or unknown, where it concerns the whole sink (kinds OUTAGE, PAUSE, REBUILD)."""
    paused: dict[str, Failure] = field(default_factory=dict)
    """The same where it concerns some topics only: by topic, as the events name it."""


class Sink(Protocol):
    """Where events go. A plug-in provides a class of this shape under the entry-point group `outboxd.sinks`; it is
    called with the source's settings."""

    async def start(self) -> None:
        """Connects. Raises SinkUnavailableError; may be called again after it."""

    async def publish(self, events: Sequence[Event], permitted: Callable[[], bool]) -> Report:
        """Delivers the events, those of one aggregate in the given order, and returns within the sink's deadline.

        `permitted` is asked before each hand-over; when it says no, what is left is unsent.

        Once an event was not delivered, no later event of its aggregate to the same topic is sent in this call,
        unless the failure is permanent and `settings.order.policy` does not hold the aggregate. Calls may overlap;
        they never share an aggregate. Never raises for the broker's sake.
        """

    def refuse(self, event: Event) -> Failure | None:
        """Why an event whose payload is not loaded cannot be sent: for it is too large, judged by `payload_bytes`, or
        has a text that is not UTF-8, as surrogates in it show. None when it may be loaded and sent."""

    async def check(self) -> None:
        """Returns when the sink can be reached; raises SinkUnavailableError with the reason when it cannot."""

    def sever(self) -> None:
        """The lease has ended while the process was frozen: nothing more may leave it. Called from outside of any
        task; what was handed over and has no answer is unknown."""

    async def close(self) -> None:
        """Lets go of everything, within a bounded time, also while the broker is gone."""
