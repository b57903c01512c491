"""The nouns: an event as it stands in the table, its status, and what the names of its tables are."""

from enum import IntEnum
from typing import Final, NamedTuple

LANES: Final = 64
"""Number of lanes. The generated column `lane` is `crc32(aggregate_id) & 63`, so this is fixed."""

MAX_INT32: Final = 2**31 - 1
"""The largest value of the column `attempt_count`."""


HELD_UNTIL: Final = "2038-01-17 13:37:11"
"""The due time, UTC, of events that are held behind a dead letter: near the end of what a TIMESTAMP holds, and
nothing that anybody would write as "never"."""


class Status(IntEnum):
    """The column `outbox_events.status`, as the Go library overtonx/outbox numbers it."""

    NEW = 0
    SENT = 1
    RETRY = 2
    ERROR = 3
    PROCESSING = 4


class Event(NamedTuple):
    """One row of the events table, as a batch holds it. A tuple, because a batch builds thousands a second."""

    id: int
    lane: int
    event_id: str
    event_type: str
    aggregate_type: str
    aggregate_id: str
    topic: str
    payload: bytes | None
    """The JSON text as stored, in UTF-8; None while it is not loaded (see `payload_bytes`). Bytes, because that is what
    is sent: a text would be a copy, of four times the size where it holds a single wide character."""
    payload_bytes: int
    """0 where payload and headers were loaded with the row, else their length in bytes."""
    headers: bytes | None
    """The application's own message headers, a JSON object as text; loaded together with the payload."""
    trace_id: str | None
    span_id: str | None
    attempt_count: int
    age_us: int
    """Microseconds between `created_at` and the read, both by the database's clock."""


class TableNames(NamedTuple):
    """The tables of one source. They belong together: lanes are lanes of one events table."""

    events: str = "outbox_events"
    dead_letters: str = "outbox_deadletters"
    instances: str = "outbox_instances"
    lanes: str = "outbox_lanes"
