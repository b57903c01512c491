"""Events made up for tests of the pure parts."""

from typing import Any

from outboxd.model import Event


def an_event(event_id: int = 1, *, aggregate: str = "a", lane: int = 0, **changes: Any) -> Event:
    """An event with sensible columns."""
    event = Event(
        id=event_id,
        lane=lane,
        event_id=f"00000000-0000-0000-0000-{event_id:012d}",
        event_type="created",
        aggregate_type="order",
        aggregate_id=aggregate,
        topic="orders",
        payload=b'{"n": 1}',
        payload_bytes=0,
        headers=None,
        trace_id=None,
        span_id=None,
        attempt_count=0,
        age_us=0,
    )
    return event._replace(**changes)
