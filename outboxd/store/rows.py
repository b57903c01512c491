"""Rows of a batch on their way from the server to `Event`.

A driver written in Python pays for each column of each row, more than for all else that happens to an event. So the
server joins the columns that are short texts into one value, and what most rows do not have into another, which is
NULL then. They are joined by a byte that no UTF-8 text contains.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

from outboxd.model import Event

SEPARATOR: Final = b"\xff"
ABSENT: Final = b"\xfe"
"""In place of NULL. No UTF-8 text contains this byte either."""

MOST_KINDS: Final = 1000
"""How many triples of event type, aggregate type and topic are remembered, of up to 6 KB each: there are few, unless
somebody errs."""

Row = tuple[int, int, bytes, bytes | None, bytes | None]
Kind = tuple[str, str, str]


def event_columns(topic: str, size: str, small: str) -> str:
    """What to select for `Events`, given the SQL of the topic, of the bytes of payload and headers, and of whether
    these are few enough to be loaded."""
    texts = ("event_id", "aggregate_id", None, "event_type", "aggregate_type", topic)
    age = "COALESCE(TIMESTAMPDIFF(MICROSECOND, created_at, NOW(6)), 0)"
    plain = f"{small} AND headers IS NULL AND trace_id IS NULL AND span_id IS NULL AND attempt_count = 0"
    rest = (
        f"IF({small}, 0, {size})",
        "attempt_count",
        _or_absent(_utf8("trace_id")),
        _or_absent(_utf8("span_id")),
        _or_absent(f"IF({small}, CAST(headers AS BINARY), NULL)"),
    )
    return (
        f"id, lane, {_joined(_utf8(text) if text else age for text in texts)}, "
        f"IF({small}, CAST(payload AS BINARY), NULL), IF({plain}, NULL, {_joined(rest)})"
    )


def _utf8(column: str) -> str:
    """The column's text as bytes of UTF-8, whatever its character set is."""
    return f"CAST(CONVERT({column} USING utf8mb4) AS BINARY)"


def _or_absent(value: str) -> str:
    return f"COALESCE({value}, x'{ABSENT.hex()}')"


def _joined(values: Iterable[str]) -> str:
    return f"CONCAT_WS(x'{SEPARATOR.hex()}', {', '.join(values)})"


class Events:
    """Makes events of such rows. Remembers kinds of events, so that thousands of them share their texts."""

    def __init__(self) -> None:
        self._kinds: dict[bytes, Kind] = {}

    def of(self, rows: Iterable[Row]) -> list[Event]:
        """The events, in the order of the rows."""
        kinds = self._kinds
        new: Callable[[type[Event], tuple[Any, ...]], Event] = tuple.__new__
        events = []
        for event_id, lane, texts, payload, rest in rows:
            name, aggregate, age, kind = texts.split(SEPARATOR, 3)
            event_type, aggregate_type, topic = kinds.get(kind) or self._learn(kind)
            event = (event_id, lane, name.decode(), event_type, aggregate_type, aggregate.decode(), topic, payload)
            events.append(new(Event, (*event, *(_rest(rest) if rest is not None else NOTHING), int(age))))
        return events

    def _learn(self, kind: bytes) -> Kind:
        if len(self._kinds) >= MOST_KINDS:
            self._kinds.clear()
        event_type, aggregate_type, topic = (text.decode() for text in kind.split(SEPARATOR))
        self._kinds[kind] = event_type, aggregate_type, topic
        return self._kinds[kind]


NOTHING: Final = (0, None, None, None, 0)
"""Of most rows: all is loaded, no headers, no trace, no attempt."""


def _rest(packed: bytes) -> tuple[int, bytes | None, str | None, str | None, int]:
    size, attempts, trace, span, headers = packed.split(SEPARATOR, 4)
    return int(size), None if headers == ABSENT else headers, _text(trace), _text(span), int(attempts)


def _text(value: bytes) -> str | None:
    return None if value == ABSENT else value.decode()
