"""From an event to a Kafka record."""

import json
import uuid
from typing import Any

import pytest

from outboxd.sinks.kafka.message import UnfitEventError, record, traceparent
from outboxd.sinks.kafka.topics import topic_failure
from outboxd.sinks.stdout import line
from outboxd.sinks.texts import COLUMNS, bad_text
from tests.pure.events import an_event

LIMIT = 1024 * 1024
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_a_record_carries_key_value_and_the_columns_as_headers() -> None:
    """The payload goes out as it stands in the table."""
    made = record(an_event(7, aggregate="order-é", payload=b'{"b": 1,  "a": "\\u00e9"}'), LIMIT)
    assert (made.key, made.value) == ("order-é".encode(), b'{"b": 1,  "a": "\\u00e9"}')
    assert made.headers == [
        ("event_id", b"00000000-0000-0000-0000-000000000007"),
        ("event_type", b"created"),
        ("aggregate_type", b"order"),
        ("aggregate_id", "order-é".encode()),
    ]


@pytest.mark.parametrize(
    ("trace_id", "span_id", "parent"),
    [
        (TRACE, SPAN, f"00-{TRACE}-{SPAN}-01"),
        (str(uuid.UUID(TRACE)).upper(), SPAN.upper(), f"00-{TRACE}-{SPAN}-01"),
        ("0" * 32, SPAN, None),
        (TRACE, "0" * 16, None),
        ("not hex", SPAN, None),
        ("", "", None),
    ],
)
def test_a_traceparent_is_made_of_valid_ids_only(trace_id: str, span_id: str, parent: str | None) -> None:
    """W3C trace context: no zero ids, lower case."""
    assert traceparent(trace_id, span_id) == parent
    headers = dict(record(an_event(trace_id=trace_id, span_id=span_id), LIMIT).headers)
    assert headers["trace_id"] == trace_id.encode()
    assert headers.get("traceparent") == (parent.encode() if parent else None)


def test_the_applications_headers_follow_and_cannot_pose_as_columns() -> None:
    """Numbers and booleans as JSON writes them, null as a null header."""
    given = {"tenant": "t-1", "event_id": "forged", "n": 12, "ok": True, "none": None, "traceparent": "00-x"}
    headers = record(an_event(headers=json.dumps(given).encode()), LIMIT).headers
    assert headers[4:] == [("tenant", b"t-1"), ("n", b"12"), ("ok", b"true"), ("none", None), ("traceparent", b"00-x")]
    assert headers[0][1] != b"forged"


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ("[1]", "is a JSON array, not an object"),
        ('"x"', "is a JSON string, not an object"),
        ('{"a": {"b": 1}}', "holds a nested object under 'a'"),
        ('{"a": "\\ud800"}', "holds a lone surrogate under 'a'"),
        ('{"\\ud800": "a"}', "holds a lone surrogate in the name '\\ud800'"),
        (json.dumps({"\0" * 10_000: []}), "holds a nested array under '" + "\\x00" * 60 + "'"),
        ("[" * 30_000 + "]" * 30_000, "is nested too deeply"),
        (json.dumps({"a": "x" * 65_536}), "has 65545 bytes, more than 65536"),
        ("5", "is a JSON number, not an object"),
        ("{", "is not valid JSON"),
        ("", "is not valid JSON"),
    ],
)
def test_headers_that_are_not_an_object_of_strings_name_the_column_and_the_cure(headers: str, problem: str) -> None:
    """The event ends as a dead letter that says what to do."""
    with pytest.raises(UnfitEventError) as caught:
        record(an_event(headers=headers.encode()), LIMIT)
    assert caught.value.failure.last_error.startswith(f"bad_headers: column headers {problem}; it must be an object")


@pytest.mark.parametrize("number", ["9007199254740993", "1.10", "-0", "1e400", "9" * 5000])
def test_a_number_in_the_headers_goes_out_as_it_is_written(number: str) -> None:
    """Python's own numbers would change or refuse it."""
    assert record(an_event(headers=f'{{"n": {number}}}'.encode()), LIMIT).headers[4:] == [("n", number.encode())]


@pytest.mark.parametrize(("size", "fits"), [(1000, True), (1_048_000, True), (1_048_576, False), (2_000_000, False)])
def test_a_record_that_is_too_large_is_refused_here(size: int, fits: bool) -> None:
    """With key, headers and overhead counted in."""
    event = an_event(payload=b"x" * size)
    if fits:
        assert len(record(event, LIMIT).value) == size
        return
    with pytest.raises(UnfitEventError) as caught:
        record(event, LIMIT)
    assert "kafka.max_message_bytes is 1048576" in caught.value.failure.text


@pytest.mark.parametrize(
    ("topic", "problem"),
    [
        ("orders", None),
        ("a" * 249, None),
        ("A.b_c-1", None),
        ("", "is empty"),
        (".", "is '.'"),
        ("..", "is '..'"),
        ("a" * 250, "has 250 characters"),
        ("orders/eu", "has characters other than"),
        ("órdenes", "has characters other than"),
        ("orders\n", "has characters other than"),
    ],
)
def test_topic_names_are_checked_as_kafka_does(topic: str, problem: str | None) -> None:
    """A broker asked for a bad name would answer with a time-out."""
    failure = topic_failure(topic)
    assert (failure is None) if problem is None else (failure is not None and problem in failure.text)


@pytest.mark.parametrize("column", COLUMNS)
def test_a_text_that_is_not_utf_8_names_its_column(column: str) -> None:
    """Bytes that the store could not decode are surrogates in a str."""
    assert bad_text(an_event(trace_id=TRACE, span_id=SPAN, topic="órdenes")) is None
    failure = bad_text(an_event()._replace(**{column: "a\udced\udca0\udc80"}))
    assert failure is not None
    assert failure.last_error.startswith(f"bad_text: column {column} holds what is no UTF-8")
    assert failure.last_error.endswith("correct the row and requeue it")


def test_a_line_of_the_stdout_sink_is_utf_8_whatever_the_payload() -> None:
    """MariaDB keeps half a surrogate pair in a payload, too."""
    assert json.loads(line(an_event(payload=b'"a\xed\xa0\x80"')).encode())["payload"].startswith("a\ufffd")


def test_a_line_of_the_stdout_sink_is_json() -> None:
    """With the payload within it as it was stored."""
    parsed: dict[str, Any] = json.loads(line(an_event(payload=b'{"big": 12345678901234567890}', headers=b'{"a": "b"}')))
    assert parsed["payload"] == {"big": 12345678901234567890}
    assert (parsed["key"], parsed["topic"], parsed["headers"]) == ("a", "orders", {"a": "b"})
