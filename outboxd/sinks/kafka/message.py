"""From an event to a Kafka record. Pure.

Key: the aggregate's id. Value: the payload as stored. Headers: event_id, event_type, aggregate_type, aggregate_id,
then trace_id, span_id and a W3C traceparent where the row has them, then the application's own.
"""

import json
import re
from functools import lru_cache
from typing import Final, NamedTuple

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from outboxd.errors import Failure, FailureKind
from outboxd.model import Event
from outboxd.sinks.texts import encodes

Header = tuple[str, bytes | None]

RESERVED: Final = frozenset({"event_id", "event_type", "aggregate_type", "aggregate_id", "trace_id", "span_id"})
"""Header names that mean a column; an application's header of such a name is not passed on."""

_TRACE_ID: Final = re.compile(r"(?!0{32})[0-9a-f]{32}")
_SPAN_ID: Final = re.compile(r"(?!0{16})[0-9a-f]{16}")


MAX_HEADERS: Final = 64 * 1024
"""Bytes of the column `headers`: each of its values is an object of its own in memory."""

MOST_COLUMNS: Final = 4 * 1024
"""Bytes that the other columns may have together, about."""

QUOTED: Final = 60
"""Characters of a header's name that a reason may hold: a name can be longer than the column for reasons."""


class _Number(str):
    """A JSON number, as it is written."""

    __slots__ = ()


class Record(NamedTuple):
    """An event as the producer takes it."""

    event: Event
    special: list[Header] | None
    """Its headers, where they are more than the columns that every event has. Those are made when the record is handed
    over: thousands of records wait, and theirs would be most of the memory."""

    @property
    def key(self) -> bytes:
        """The aggregate's id."""
        return self.event.aggregate_id.encode()

    @property
    def value(self) -> bytes:
        """The payload as stored."""
        return self.event.payload or b""

    @property
    def headers(self) -> list[Header]:
        """All of them."""
        return self.special or column_headers(self.event, self.key)


class UnfitEventError(Exception):
    """The event cannot become a record; carries the failure."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.last_error)
        self.failure = failure


def traceparent(trace_id: str, span_id: str) -> str | None:
    """The W3C header made of the row's ids, where they are valid; a trace id written as a UUID is one."""
    trace = trace_id.replace("-", "").lower()
    span = span_id.lower()
    if _TRACE_ID.fullmatch(trace) and _SPAN_ID.fullmatch(span):
        return f"00-{trace}-{span}-01"
    return None


def record(event: Event, max_bytes: int) -> Record:
    """The record of an event whose payload is loaded. Raises UnfitEventError."""
    special = None
    if event.trace_id is not None or event.span_id is not None or event.headers is not None:
        special = column_headers(event, event.aggregate_id.encode())
        special += _trace_headers(event)
        special += _own_headers(event, {name for name, _ in special})
    made = Record(event, special)
    # Only a record near the limit is worth an exact measurement.
    if len(made.value) + MOST_COLUMNS > max_bytes // 2 or event.headers is not None:
        _check_size(made.key, made.value, made.headers, max_bytes)
    return made


def column_headers(event: Event, key: bytes) -> list[Header]:
    """Of every event."""
    return [
        ("event_id", event.event_id.encode()),
        *_type_headers(event.event_type, event.aggregate_type),
        ("aggregate_id", key),
    ]


@lru_cache(maxsize=256)
def _type_headers(event_type: str, aggregate_type: str) -> tuple[Header, Header]:
    """Made once per pair of types: there are few of them."""
    return ("event_type", event_type.encode()), ("aggregate_type", aggregate_type.encode())


def _trace_headers(event: Event) -> list[Header]:
    headers: list[Header] = []
    if event.trace_id is not None:
        headers.append(("trace_id", event.trace_id.encode()))
    if event.span_id is not None:
        headers.append(("span_id", event.span_id.encode()))
    if event.trace_id is not None and event.span_id is not None:
        parent = traceparent(event.trace_id, event.span_id)
        if parent:
            headers.append(("traceparent", parent.encode()))
    return headers


def _own_headers(event: Event, taken: set[str]) -> list[Header]:
    if event.headers is None:
        return []
    if len(event.headers) > MAX_HEADERS:
        raise _bad_headers(f"has {len(event.headers)} bytes, more than {MAX_HEADERS}")
    try:
        given = json.loads(event.headers.decode(), parse_int=_Number, parse_float=_Number)
    except ValueError as error:
        raise _bad_headers("is not valid JSON") from error
    except RecursionError as error:
        raise _bad_headers("is nested too deeply") from error
    if given is None:
        return []
    if not isinstance(given, dict):
        raise _bad_headers(f"is a JSON {_kind(given)}, not an object")
    taken |= RESERVED
    return [_own_header(name, value) for name, value in given.items() if name not in taken]


def _own_header(name: str, value: object) -> Header:
    quoted = repr(name[:QUOTED])
    if not encodes(name):
        raise _bad_headers(f"holds a lone surrogate in the name {quoted}")
    if value is None:
        return name, None
    if isinstance(value, bool):
        return name, b"true" if value else b"false"
    if not isinstance(value, str):
        raise _bad_headers(f"holds a nested {_kind(value)} under {quoted}")
    if not encodes(value):
        raise _bad_headers(f"holds a lone surrogate under {quoted}")
    return name, value.encode()


def _bad_headers(problem: str) -> UnfitEventError:
    cure = "it must be an object of strings; correct the row and requeue it"
    return UnfitEventError(Failure(FailureKind.PERMANENT, "bad_headers", f"column headers {problem}; {cure}"))


def _kind(value: object) -> str:
    return {list: "array", dict: "object", str: "string", bool: "boolean"}.get(type(value), "number")


def _check_size(key: bytes, value: bytes, headers: list[Header], max_bytes: int) -> None:
    size = DefaultRecordBatchBuilder.estimate_size_in_bytes(key, value, headers)
    if size > max_bytes:
        raise UnfitEventError(too_large(size, max_bytes))


def too_large(size: int, max_bytes: int) -> Failure:
    """The failure of an event whose record would have `size` bytes."""
    return Failure(
        FailureKind.PERMANENT,
        "message_too_large",
        f"the message of the columns payload and headers has {size} bytes, kafka.max_message_bytes is {max_bytes}; "
        "raise it together with the topic's max.message.bytes, or store a reference in the payload",
    )
