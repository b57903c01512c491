"""The stdout sink: one JSON line per event, to look at, or for pipelines without Kafka."""

import asyncio
import json
import sys
from collections.abc import Callable, Sequence

from outboxd.config.settings import SourceSettings
from outboxd.errors import Failure, FailureKind
from outboxd.model import Event
from outboxd.ports import Report
from outboxd.sinks.texts import bad_text


class StdoutSink:
    """See `ports.Sink`."""

    def __init__(self, _settings: SourceSettings) -> None:
        """It has no settings of its own."""

    async def start(self) -> None:
        """Nothing to connect."""

    def refuse(self, event: Event) -> Failure | None:
        """A line may be of any length, but it is UTF-8."""
        return bad_text(event)

    async def check(self) -> None:
        """Standard output is there."""

    def sever(self) -> None:
        """Lines are written at once."""

    async def close(self) -> None:
        """Nothing to let go of."""

    async def publish(self, events: Sequence[Event], permitted: Callable[[], bool]) -> Report:
        """Writes all lines in one go. What reads them may be slow, so a thread does it."""
        report = Report()
        if not permitted():
            report.unsent += events
            return report
        text = "".join(line(event) for event in events)
        try:
            await asyncio.to_thread(self._write, text)
        except OSError as error:
            report.unknown += events
            report.trouble = Failure(FailureKind.OUTAGE, "stdout", f"standard output: {error.strerror}")
            return report
        report.delivered += events
        return report

    @staticmethod
    def _write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def line(event: Event) -> str:
    """The event as a JSON line; the payload as stored, within it."""
    envelope = {
        "topic": event.topic,
        "key": event.aggregate_id,
        "event_id": event.event_id,
        "event_type": event.event_type,
        "aggregate_type": event.aggregate_type,
        "trace_id": event.trace_id,
        "span_id": event.span_id,
    }
    # The payload and the headers are JSON already: they are passed through, not parsed and written anew.
    headers, payload = ((text or b"null").decode(errors="replace") for text in (event.headers, event.payload))
    rest = f', "headers": {headers}, "payload": {payload}}}\n'
    return json.dumps(envelope, ensure_ascii=False)[:-1] + rest
