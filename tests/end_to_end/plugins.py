"""Sink plug-ins for the tests, and how they are installed."""

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from outboxd.errors import Failure, FailureKind
from outboxd.model import Event
from outboxd.ports import Report
from outboxd.sinks.kafka import KafkaSink
from outboxd.sinks.stdout import StdoutSink


class KillerSink(StdoutSink):
    """Kills its process with SIGKILL at an event of type `deadly`, after having delivered what stands before it."""

    async def publish(self, events: Sequence[Event], permitted: Callable[[], bool]) -> Report:
        """Delivers, or dies."""
        before = [event for event in events if event.event_type != "deadly"]
        if len(before) < len(events):
            await super().publish(events[: [event.event_type for event in events].index("deadly")], permitted)
            os.kill(os.getpid(), signal.SIGKILL)
        return await super().publish(events, permitted)


class FlakySink(KafkaSink):
    """Kafka, but an event of type `flaky` fails each time, as if its record were damaged on its way."""

    async def publish(self, events: Sequence[Event], permitted: Callable[[], bool]) -> Report:
        """Delivers the others."""
        failure = Failure(FailureKind.CAPPED, "corrupt_record", "the broker found the record damaged on its way")
        first: dict[str, Event] = {}
        good, failed, behind = [], [], []
        for event in events:
            if event.aggregate_id in first:
                behind.append((event, first[event.aggregate_id]))
            elif event.event_type == "flaky":
                first[event.aggregate_id] = event
                failed.append((event, failure))
            else:
                good.append(event)
        report = await super().publish(good, permitted)
        report.failed += failed
        report.behind += behind
        return report


class RefusingSink(StdoutSink):
    """Can be reached, and delivers nothing, as a broker without the right ACL."""

    async def publish(self, events: Sequence[Event], permitted: Callable[[], bool]) -> Report:
        """Refuses."""
        trouble = Failure(FailureKind.PAUSE, "topic_authorization", "the principal may not write to the topic")
        return Report(unsent=list(events), trouble=trouble)


def installed(folder: Path, **sinks: str) -> dict[str, str]:
    """The classes of this module, by their sink's name, as an installed distribution; the environment to find it."""
    metadata = folder / "plugins-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: plugins\nVersion: 1.0\n")
    lines = [f"{name} = {__name__}:{sink}" for name, sink in sinks.items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[outboxd.sinks]", *lines, ""]))
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(Path(__file__).parents[2])])}
