"""Rows that no application should write, and what becomes of each."""

import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pymysql

from outboxd.model import LANES

Header = tuple[str, bytes | None]

SECRET = "hunter2"
"""In every payload of `kinds`; it must never be in a log."""

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ZERO = "0000-00-00 00:00:00"
WIDE = "\N{GRINNING FACE}"
"""Four bytes in UTF-8."""

HALF = b"\xed\xa0\x80".decode(errors="surrogateescape")
"""The first half of a surrogate pair, which has no UTF-8, as Python keeps bytes that it cannot decode."""

STATEMENT = "INSERT INTO outbox_events ({}) VALUES ({})"
COLUMNS = (
    "id, event_id, event_type, aggregate_type, aggregate_id, topic, payload, headers, trace_id, span_id, attempt_count"
)
"""Read them as `as_stored` says."""


class Delivered(NamedTuple):
    """It arrives exactly as it is stored, with these headers behind those of the four columns."""

    headers: tuple[Header, ...] = ()


class Dead(NamedTuple):
    """It is a dead letter with this reason, and a text that holds this phrase."""

    reason: str
    phrase: str


class Stays(NamedTuple):
    """It is left alone."""

    status: int


@dataclass
class Kind:
    """A bad row: its name, the columns that make it one, and its end."""

    name: str
    end: Delivered | Dead | Stays
    columns: dict[str, Any] = field(default_factory=dict)
    social: bool = True
    """Good events of its own aggregate can stand before and behind it."""


class Topics(NamedTuple):
    """They exist."""

    orders: str
    mixed_case: str
    longest: str
    """249 characters."""
    narrow: str
    """Takes no message of more than 500,000 bytes."""


def kinds(topics: Topics, *, mariadb: bool) -> list[Kind]:
    """Every kind that the server takes; the one that uses up the ids is the last."""
    found = [
        *_topics(topics),
        *_statuses(),
        *_aggregates(),
        *_payloads(topics),
        *_headers(),
        *_traces(),
        *_times(),
        *_counts(),
        *_event_ids(),
        *_types(),
        *(_only_mariadb() if mariadb else _only_mysql()),
        *_ids(),
    ]
    for number, kind in enumerate(found):
        kind.columns = a_row(f"bad-{number}", topics.orders) | kind.columns
    return found


def a_row(name: str, topic: str) -> dict[str, Any]:
    """A good one."""
    payload = json.dumps({"text": SECRET})
    named = {"event_id": name, "event_type": "changed", "aggregate_type": "order", "aggregate_id": name}
    return named | {"topic": topic, "payload": payload}


def _topics(topics: Topics) -> Iterator[Kind]:
    for name, topic, problem in [
        (
            "topic empty",
            "",
            "column topic is empty; correct the row's topic and requeue it, or set kafka.default_topic",
        ),
        ("topic .", ".", "column topic is '.', which Kafka does not allow"),
        ("topic ..", "..", "column topic is '..', which Kafka does not allow"),
        ("topic of 250 characters", "a" * 250, "column topic has 250 characters, Kafka allows 249"),
        ("topic of 255 wide characters", WIDE * 255, "column topic has 255 characters"),
        ("topic with a slash", "orders/eu", "column topic has characters other than"),
        ("topic with a space behind", f"{topics.orders} ", "column topic has characters other than"),
        ("topic with a line feed", f"{topics.orders}\n", "column topic has characters other than"),
        ("topic with NUL", "orders\0", "column topic has characters other than"),
        ("topic with an accent", "órdenes", "column topic has characters other than"),
    ]:
        yield Kind(name, Dead("invalid_topic", problem), {"topic": topic})
    yield Kind("topic of 249 characters", Delivered(), {"topic": topics.longest})
    yield Kind("topic of mixed case", Delivered(), {"topic": topics.mixed_case})


def _statuses() -> Iterator[Kind]:
    for status in (5, -1, 99, -(2**31), 2**31 - 1):
        phrase = f"column status is {status}, which means nothing; write 0 (new), or 2 (retry) with a due time"
        yield Kind(f"status {status}", Dead("unknown_status", phrase), {"status": status})
    yield Kind("status sent", Stays(1), {"status": 1})
    yield Kind("status error without a reason", Dead("other", ""), {"status": 3})
    yield Kind("status processing", Delivered(), {"status": 4}, social=False)
    yield Kind("status retry without a due time", Delivered(), {"status": 2})
    yield Kind("status retry, due in the past", Delivered(), {"status": 2, "next_attempt_at": "1980-01-01"})
    yield Kind("status retry, due at zero", Delivered(), {"status": 2, "next_attempt_at": ZERO})
    far = {"status": 2, "next_attempt_at": "2038-01-01"}
    yield Kind("status retry, due in the far future", Stays(2), far, social=False)


def _aggregates() -> Iterator[Kind]:
    for name, aggregate in [
        ("empty", ""),
        ("of 255 wide characters", WIDE * 255),
        ("with a space behind", "bad "),
        ("with NUL", "bad\0aggregate"),
        ("with control characters", "\x01\x1b[31m\r\n\x7f\u202e"),
        ("of mixed case", "BAD"),
        ("like SQL", "%s'; --\\"),
    ]:
        yield Kind(f"aggregate {name}", Delivered(), {"aggregate_id": aggregate})
    yield Kind("aggregate type empty", Delivered(), {"aggregate_type": ""})


def _payloads(topics: Topics) -> Iterator[Kind]:
    for payload in ('""', "null", "0", "{}", "[]", "false"):
        yield Kind(f"payload {payload}", Delivered(), {"payload": payload})
    yield Kind("payload with NUL", Delivered(), {"payload": '"\\u0000"'})
    yield Kind("payload of duplicate keys", Delivered(), {"payload": '{"a": 1, "b": 2, "a": 3}'})
    yield Kind("payload beyond 2^53", Delivered(), {"payload": "[9007199254740993, 18446744073709551615, 1.10]"})
    yield Kind("payload of wide characters", Delivered(), {"payload": json.dumps(WIDE * 1000, ensure_ascii=False)})
    limit = 2**20
    too_large = Dead("message_too_large", "store a reference in the payload")
    yield Kind("payload of 1 MB, less than the broker takes", Delivered(), {"payload": _text(limit - 1000)})
    yield Kind("payload of 1 MB, its message is more", too_large, {"payload": _text(limit - 10)})
    yield Kind("payload of 1 MB and a byte", too_large, {"payload": _text(limit + 1)})
    yield Kind("payload of 16 MB", too_large, {"payload": _text(16 * limit)})
    narrow = Dead("message_too_large", "raise the topic's max.message.bytes, or store a reference")
    yield Kind("payload of more than the topic takes", narrow, {"payload": _text(700_000), "topic": topics.narrow})


def _text(size: int) -> str:
    """A JSON text of so many bytes."""
    return json.dumps(SECRET + "x" * (size - len(SECRET) - 2))


def _headers() -> Iterator[Kind]:
    for name, headers, problem in [
        ("an array", "[1, 2]", "column headers is a JSON array, not an object; it must be an object of strings"),
        ("a string", '"x"', "column headers is a JSON string"),
        ("a number", "5", "column headers is a JSON number"),
        ("a boolean", "true", "column headers is a JSON boolean"),
        ("with an object", '{"a": {"b": 1}}', "column headers holds a nested object under 'a'"),
        ("with an array", '{"a": []}', "column headers holds a nested array under 'a'"),
        ("of 100 KB", json.dumps({"a": "x" * 100_000}), "column headers has 100009 bytes, more than 65536"),
        ("nested deeply", '{"a": ' + "[" * 29 + "]" * 29 + "}", "column headers holds a nested array under 'a'"),
        ("nested, of a huge name", json.dumps({"\0" * 10_000: []}), r"column headers holds a nested array under '\x00"),
    ]:
        yield Kind(f"headers {name}", Dead("bad_headers", problem), {"headers": headers})
    huge = Dead("message_too_large", "columns payload and headers")
    yield Kind("headers of 4 MB", huge, {"headers": json.dumps({"a": "x" * 4_000_000})})
    for name, headers, expected in [
        ("of JSON null", "null", ()),
        ("without any", "{}", ()),
        ("of 60 KB", json.dumps({"a": "x" * 60_000}), (("a", b"x" * 60_000),)),
        ("with reserved names", '{"event_id": "forged", "span_id": "x", "tenant": "t"}', (("tenant", b"t"),)),
        ("with an empty name", '{"": "x"}', (("", b"x"),)),
        ("with null", '{"a": null}', (("a", None),)),
        ("with an empty value", '{"a": ""}', (("a", b""),)),
        ("with a boolean", '{"a": true}', (("a", b"true"),)),
        ("beyond 2^53", '{"a": 9007199254740993}', (("a", b"9007199254740993"),)),
        ("with wide characters", json.dumps({WIDE: f"\0{WIDE}"}), ((WIDE, f"\0{WIDE}".encode()),)),
        ("with a trace", '{"traceparent": "mine"}', (("traceparent", b"mine"),)),
    ]:
        yield Kind(f"headers {name}", Delivered(expected), {"headers": headers})


def _traces() -> Iterator[Kind]:
    ids: list[tuple[str, str | None, str | None, bytes | None]] = [
        ("not hex", "not hex", "nor this", None),
        ("of zeros", "0" * 32, "0" * 16, None),
        ("empty", "", "", None),
        ("without a span", TRACE, None, None),
        ("without a trace", None, SPAN, None),
        ("of wide characters", WIDE * 36, WIDE * 36, None),
        ("in upper case", TRACE.upper(), SPAN.upper(), f"00-{TRACE}-{SPAN}-01".encode()),
    ]
    for name, trace, span, parent in ids:
        named = {"trace_id": trace, "span_id": span}
        expected: list[Header] = [(key, value.encode()) for key, value in named.items() if value is not None]
        if parent:
            expected.append(("traceparent", parent))
        yield Kind(f"trace {name}", Delivered(tuple(expected)), dict(named))


def _times() -> Iterator[Kind]:
    for column, name, time in [
        ("next_attempt_at", "in the past", "1980-01-01"),
        ("next_attempt_at", "in the far future", "2038-01-19 03:14:07"),
        ("next_attempt_at", "zero", ZERO),
        ("created_at", "in the future", "2038-01-01"),
        ("created_at", "zero", ZERO),
        ("updated_at", "in the future", "2038-01-01"),
        ("updated_at", "zero", ZERO),
    ]:
        yield Kind(f"{column} {name}", Delivered(), {column: time})
    bad = {"created_at": ZERO, "updated_at": ZERO, "topic": ""}
    yield Kind("all times zero, and no topic", Dead("invalid_topic", "column topic is empty"), bad)


def _counts() -> Iterator[Kind]:
    for count in (-1, -(2**31), 2**31 - 1):
        yield Kind(f"attempt_count {count}", Delivered(), {"attempt_count": count})
        bad = {"attempt_count": count, "topic": ""}
        yield Kind(f"attempt_count {count}, and no topic", Dead("invalid_topic", "column topic is empty"), bad)
    spent = {"attempt_count": 2**31 - 1, "status": 4}
    yield Kind("attempt_count 2^31-1 in processing", Dead("stuck", "another dispatcher"), spent, social=False)
    yield Kind("last_error of 60 KB", Delivered(), {"last_error": "x" * 60_000})
    bad = {"last_error": "x" * 60_000, "status": 3}
    yield Kind("last_error of 60 KB in error", Dead("other", "xxx"), bad)


def _event_ids() -> Iterator[Kind]:
    for name, event_id in [
        ("empty", ""),
        ("that is no UUID", "order 42 was placed"),
        ("with spaces", "  event  id"),
        ("of 36 wide characters", WIDE * 36),
        ("with NUL", "a\0b"),
    ]:
        yield Kind(f"event_id {name}", Delivered(), {"event_id": event_id})


def _types() -> Iterator[Kind]:
    for name, event_type in [
        ("empty", ""),
        ("of 255 wide characters", WIDE * 255),
        ("with control characters", "\x00\x01\x1b[31m\r\n"),
    ]:
        yield Kind(f"event_type {name}", Delivered(), {"event_type": event_type})


def _only_mysql() -> Iterator[Kind]:
    yield Kind("payload of 100 levels", Delivered(), {"payload": "[" * 100 + "]" * 100})


def _only_mariadb() -> Iterator[Kind]:
    """MySQL's type JSON refuses them."""
    yield Kind("payload of 31 levels", Delivered(), {"payload": "[" * 31 + "]" * 31})
    yield Kind("payload beyond a double", Delivered(), {"payload": "1e400"})
    # An application can turn the column's check off.
    yield Kind("payload with a lone surrogate", Delivered(), {"payload": '"\\ud800"'})
    yield Kind("payload of 0 bytes", Delivered(), {"payload": ""})
    yield Kind("payload that is not JSON", Delivered(), {"payload": "not JSON"})
    bad = {"payload": "not JSON", "topic": ""}
    yield Kind("payload that is not JSON, and no topic", Dead("invalid_topic", "column topic is empty"), bad)
    yield from _half_pairs()
    for name, headers, problem in [
        ("that are not JSON", "{", "column headers is not valid JSON"),
        ("of 0 bytes", "", "column headers is not valid JSON"),
        ("of 2,000 levels", "[" * 2000 + "]" * 2000, "column headers is nested too deeply"),
        ("with a lone surrogate", '{"a": "\\ud800"}', "column headers holds a lone surrogate under 'a'"),
        ("with a surrogate as a name", '{"\\ud800": "a"}', "column headers holds a lone surrogate in the name"),
    ]:
        yield Kind(f"headers {name}", Dead("bad_headers", problem), {"headers": headers})
    for name, number in [("beyond a double", "1e400"), ("of 5,000 digits", "9" * 5000), ("as written", "1.10")]:
        yield Kind(f"headers {name}", Delivered((("a", number.encode()),)), {"headers": f'{{"a": {number}}}'})
    twice = '{"a": "1", "a": "2"}'
    yield Kind("headers of duplicate names", Delivered((("a", b"2"),)), {"headers": twice})


def _half_pairs() -> Iterator[Kind]:
    """MariaDB takes the bytes of half a surrogate pair for a character."""
    for column in ("event_id", "event_type", "aggregate_type", "aggregate_id", "trace_id", "span_id"):
        social = column != "aggregate_id"
        end = Dead("bad_text", f"column {column} holds what is no UTF-8, such as half of a surrogate pair; correct the")
        yield Kind(f"{column} with a lone surrogate", end, {column: f"a{HALF}b"}, social=social)
        late = {column: f"a{HALF}c", "status": 2, "headers": '{"a": "b"}', "attempt_count": 1}
        yield Kind(f"{column} with a lone surrogate, in retry", end, late, social=social)
    illegal = Dead("bad_text", "column topic holds what is no UTF-8")
    yield Kind("topic with a lone surrogate", illegal, {"topic": f"orders{HALF}"})
    given_up = {"event_type": HALF, "status": 3, "last_error": HALF}
    yield Kind("status error, of a type and a reason with lone surrogates", Dead("other", HALF), given_up)


def _ids() -> Iterator[Kind]:
    for event_id in (0, -5, -(2**63), 10_000_000, 2**63 - 1):
        yield Kind(f"id {event_id}", Delivered(), {"id": event_id}, social=False)


# --- as an application writes them ------------------------------------------------------------------------------


@dataclass
class Stored:
    """A row as the table has it."""

    kind: Kind
    columns: dict[str, Any]

    @property
    def id(self) -> int:
        """Its id."""
        return int(self.columns["id"])


def permissive(connection: "pymysql.Connection[Any]", *, mariadb: bool) -> None:
    """Lets the connection write what a strict one refuses."""
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00'")
        if mariadb:
            cursor.execute("SET SESSION check_constraint_checks = 0")


def store(connection: "pymysql.Connection[Any]", kind: Kind) -> Stored:
    """Inserts the row, and reads it back before anybody else can see it."""
    connection.begin()
    with connection.cursor(pymysql.cursors.DictCursor) as cursor:
        names, marks = ", ".join(kind.columns), ", ".join(["%s"] * len(kind.columns))
        cursor.execute(STATEMENT.format(names, marks), tuple(map(as_written, kind.columns.values())))
        row_id = kind.columns.get("id", cursor.lastrowid)
        cursor.execute(f"SELECT {as_stored(COLUMNS)} FROM outbox_events WHERE id = %s", (row_id,))
        columns = cursor.fetchone()
    connection.commit()
    assert columns is not None, kind.name
    return Stored(kind, decoded(columns))


def as_written(value: Any) -> Any:
    """Half a surrogate pair is written as bytes: the driver would not encode it."""
    return value.encode(errors="surrogateescape") if isinstance(value, str) and HALF in value else value


def as_stored(columns: str) -> str:
    """Selects the columns as bytes, which no driver decodes; for `decoded`."""
    return ", ".join(
        name if name in {"id", "attempt_count"} else f"CAST({name} AS BINARY) AS {name}" for name in columns.split(", ")
    )


def decoded(columns: dict[str, Any]) -> dict[str, Any]:
    """Texts, which may hold such a half."""
    return {
        name: value.decode(errors="surrogateescape") if isinstance(value, bytes) else value
        for name, value in columns.items()
    }


def lane_of(aggregate_id: str) -> int:
    """As the generated column has it."""
    return zlib.crc32(aggregate_id.encode(errors="surrogateescape")) & (LANES - 1)


def neighbours(lanes: Iterable[int]) -> list[str]:
    """For each of the lanes the name of an aggregate in it."""
    missing, names, number = set(lanes), [], 0
    while missing:
        name = f"good-{number}"
        if lane_of(name) in missing:
            missing.remove(lane_of(name))
            names.append(name)
        number += 1
    return names
