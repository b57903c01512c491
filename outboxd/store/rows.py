"""Rows of a batch on their way from the server to `Event`.

A driver written in Python pays for each column of each row, more than for all else that happens to an event. So the
server joins the columns that are short texts into one value, and what most rows do not have into another, which is
NULL then. They are joined by a byte that no UTF-8 text contains.

Not every text that a server keeps is UTF-8: half of a surrogate pair is none. What cannot be decoded becomes a str with
surrogates in it (PEP 383), which tells aggregates apart, and which no sink takes.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from outboxd.model import Event

SEPARATOR: Final = b"\xff"
ABSENT: Final = b"\xfe"
"""In place of NULL, or in front of the hexadecimal digits of a text that the server cannot convert. No UTF-8 text
contains this byte either."""
LEFT_OUT: Final = b"\xfd"
"""In place of headers that do not fit in: the joined value would have more than max_allowed_packet."""

MOST_KINDS: Final = 1000
"""How many triples of event type, aggregate type and topic are remembered, of up to 6 KB each: there are few, unless
somebody errs."""

Row = tuple[int, int, bytes, bytes | None, bytes | None]
Kind = tuple[str, str, str]


def event_columns(topic: str, payload: str, headers: str, size: str, small: str) -> str:
    """What to select for `Events`, given the SQL of the topic, of payload and headers as bytes, of how many they are,
    and of whether these are few enough to be loaded."""
    texts = ("event_id", "aggregate_id", None, "event_type", "aggregate_type", topic)
    age = "COALESCE(TIMESTAMPDIFF(MICROSECOND, created_at, NOW(6)), 0)"
    plain = f"{small} AND headers IS NULL AND trace_id IS NULL AND span_id IS NULL AND attempt_count = 0"
    columns = ("attempt_count", _or_absent(utf8("trace_id")), _or_absent(utf8("span_id")))
    rest = _joined((f"IF({small}, 0, {size})", *columns, _or_absent(f"IF({small}, {headers}, NULL)")))
    too_long = _joined((size, *columns, f"x'{LEFT_OUT.hex()}'"))
    return (
        f"id, lane, {_joined(utf8(text) if text else age for text in texts)}, "
        f"IF({small}, {payload}, NULL), IF({plain}, NULL, COALESCE({rest}, {too_long}))"
    )


def utf8(column: str) -> str:
    """The column's text as bytes of UTF-8, whatever its character set is; NULL only where the column is.

    MySQL converts to NULL what has no UTF-8; MariaDB to bytes that are not UTF-8 either.
    """
    return f"COALESCE({converted(column)}, CONCAT(x'{ABSENT.hex()}', HEX({column})))"


def converted(column: str) -> str:
    """The same, but NULL where the server cannot convert it."""
    return as_bytes(f"CONVERT({column} USING utf8mb4)")


def as_bytes(value: str) -> str:
    """The text as it is, which no driver decodes."""
    return f"CAST({value} AS BINARY)"


def text(value: bytes) -> str:
    """What `utf8` selected."""
    return value.decode(errors="surrogateescape")


def text_or_none(value: bytes | None) -> str | None:
    """The same of a column that may be NULL."""
    return None if value is None else text(value)


def _or_absent(value: str) -> str:
    return f"COALESCE({value}, x'{ABSENT.hex()}')"


def _joined(values: Iterable[str]) -> str:
    return f"CONCAT_WS(x'{SEPARATOR.hex()}', {', '.join(values)})"


class Events:
    """Makes events of such rows. Remembers kinds of events, so that thousands of them share their texts."""

    def __init__(self) -> None:
        self._kinds: dict[bytes, Kind] = {}

    def of(self, rows: Sequence[Row]) -> list[Event]:
        """The events, in the order of the rows. Of those that have a text which is not UTF-8, the payload is left
        out, as of large ones: the sink is asked, before it is loaded."""
        try:
            return self._all(rows)
        except ValueError:
            return [event for row in rows for event in self._one(row)]

    def _one(self, row: Row) -> list[Event]:
        try:
            return self._all((row,))
        except ValueError:
            return [_salvaged(row)]

    def _all(self, rows: Iterable[Row]) -> list[Event]:
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
    if headers == LEFT_OUT:
        raise ValueError("headers were left out")
    return int(size), None if headers == ABSENT else headers, _text(trace), _text(span), int(attempts)


def _text(value: bytes) -> str | None:
    return None if value == ABSENT else value.decode()


def _salvaged(row: Row) -> Event:
    """The event of a row that is not as it should be, without payload and headers."""
    event_id, lane, texts, payload, rest = row
    name, aggregate, age, *kind = texts.split(SEPARATOR)
    event_type, aggregate_type, topic = map(text, kind)
    size, attempts, trace, span, headers = rest.split(SEPARATOR, 4) if rest is not None else (b"0", b"0", *[ABSENT] * 3)
    loaded = len(payload or b"") + (len(headers) if headers != ABSENT else 0)
    trace_id, span_id = (None if value == ABSENT else text(value) for value in (trace, span))
    event = (event_id, lane, text(name), event_type, aggregate_type, text(aggregate), topic, None)
    return Event(*event, int(size) or loaded, None, trace_id, span_id, int(attempts), int(age))
