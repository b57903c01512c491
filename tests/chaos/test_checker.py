"""The checker finds what it is there to find: or no scenario could fail."""

from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Message, Producer

from tests.end_to_end.application import Committed, Ledger
from tests.end_to_end.checker import Verdict, check, consume
from tests.servers.mock_kafka import MockKafka

Change = Callable[[list[Message]], list[Message]]
EVENTS, AGGREGATES = 60, 7


@pytest.fixture
def ledger() -> Ledger:
    """60 events of 7 aggregates, each payload as text and as the database would give it back."""
    written = Ledger()
    written.commit([written.row(f"order-{n % AGGREGATES}", "orders") for n in range(EVENTS)])
    for committed in written.events.values():
        committed.topic, committed.stored = "orders", committed.payload.encode()
    return written


def as_message(event_id: str, event: Committed, offset: int = 0, **changed: object) -> Message:
    """The message of an event, as it ought to be but for what is `changed`."""
    headers = [
        ("event_id", event_id.encode()),
        ("event_type", event.event_type.encode()),
        ("aggregate_type", event.aggregate_type.encode()),
        ("aggregate_id", event.aggregate_id.encode()),
    ]
    right = {"key": event.aggregate_id.encode(), "value": event.payload.encode(), "headers": headers}
    return Message(**({"topic": "orders", "partition": 0, "offset": offset} | right | changed))  # type: ignore[arg-type]


@pytest.fixture
def messages(ledger: Ledger) -> list[Message]:
    """All of them, as they ought to arrive."""
    return [as_message(event_id, event, n) for n, (event_id, event) in enumerate(ledger.events.items())]


def moved(source: int, target: int) -> Change:
    """A message taken out, and put in elsewhere."""

    def change(messages: list[Message]) -> list[Message]:
        rest = messages[:source] + messages[source + 1 :]
        return [*rest[:target], messages[source], *rest[target:]]

    return change


def test_what_is_right_is_right(ledger: Ledger, messages: list[Message]) -> None:
    """Without a difference it finds none."""
    verdict = check(messages, ledger)
    assert verdict == Verdict(delivered=EVENTS)
    assert verdict.clean
    assert not verdict.differences


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(lambda m: m[:9] + m[10:], Verdict(delivered=EVENTS - 1, missing=1), id="lost"),
        pytest.param(lambda m: m[:-1], Verdict(delivered=EVENTS - 1, missing=1), id="the last one lost"),
        pytest.param(lambda m: [], Verdict(missing=EVENTS), id="all lost"),
        pytest.param(moved(9, 9 + AGGREGATES), Verdict(delivered=EVENTS, reordered=1), id="behind its successor"),
        pytest.param(moved(0, EVENTS - 1), Verdict(delivered=EVENTS, reordered=1), id="behind all"),
        pytest.param(moved(EVENTS - 1, 0), Verdict(delivered=EVENTS, reordered=8), id="before all"),
        pytest.param(moved(9, 11), Verdict(delivered=EVENTS), id="behind another aggregate's: no matter"),
        pytest.param(lambda m: [*m, m[9]], Verdict(delivered=EVENTS, duplicates=1), id="doubled"),
        pytest.param(lambda m: [*m, *m[20:]], Verdict(delivered=EVENTS, duplicates=40), id="a batch doubled"),
        pytest.param(
            lambda m: [*m[:9], *m[10:], m[9]], Verdict(delivered=EVENTS, reordered=1), id="sent only when repeated"
        ),
    ],
)
def test_lost_moved_and_doubled_messages(
    ledger: Ledger, messages: list[Message], change: Change, expected: Verdict
) -> None:
    """Each is counted as what it is, and told unless it is a mere repetition."""
    verdict = check(change(messages), ledger)
    assert verdict == expected
    assert verdict.clean == (not expected.missing and not expected.reordered)
    assert bool(verdict.differences) == (not verdict.clean)


@pytest.mark.parametrize(
    "changed",
    [
        {"value": b"{}"},
        {"value": b"not json"},
        {"value": b""},
        {"value": None},
        {"key": b"order-1000"},
        {"key": None},
        {"topic": "other"},
    ],
    ids=str,
)
def test_a_changed_message(ledger: Ledger, messages: list[Message], changed: dict[str, object]) -> None:
    """Found, also in a repetition."""
    (event_id, event), *_ = ledger.events.items()
    wrong = as_message(event_id, event, **changed)
    assert check([wrong, *messages[1:]], ledger).changed == 1
    assert check([*messages, wrong], ledger).changed == 1
    assert not check([*messages, wrong], ledger).clean


def test_one_byte_of_a_payload(ledger: Ledger, messages: list[Message]) -> None:
    """Also where the JSON means the same: a space is enough."""
    (event_id, event), *_ = ledger.events.items()
    spaced = as_message(event_id, event, value=event.payload.replace(":", ": ").encode())
    assert check([spaced, *messages[1:]], ledger).changed == 1
    event.stored = None  # not known: then only the meaning counts
    assert check([spaced, *messages[1:]], ledger).clean


@pytest.mark.parametrize("name", ["event_type", "aggregate_type", "aggregate_id"])
def test_a_header_that_is_wrong_missing_or_doubled(ledger: Ledger, messages: list[Message], name: str) -> None:
    """Each of the four is looked at."""
    (event_id, event), *_ = ledger.events.items()
    headers = as_message(event_id, event).headers() or []
    wrong = [(key, b"wrong" if key == name else value) for key, value in headers]
    missing = [(key, value) for key, value in headers if key != name]
    for spoiled in (wrong, missing, [*headers, (name, b"wrong")]):
        assert check([as_message(event_id, event, headers=spoiled), *messages[1:]], ledger).changed == 1


def test_a_stranger(ledger: Ledger, messages: list[Message]) -> None:
    """A message of no committed event, for example of one that was rolled back; or of none at all."""
    rolled_back = Committed("order-1", 99, "{}")
    verdict = check([*messages, as_message("rolled-back", rolled_back)], ledger)
    assert verdict == Verdict(delivered=EVENTS, strangers=1)
    assert not verdict.clean
    assert check([*messages, Message(topic="orders", value=b"{}")], ledger).strangers == 1


def test_an_aggregate_in_two_partitions(ledger: Ledger, messages: list[Message]) -> None:
    """There no consumer could put it in order."""
    event_id, event = list(ledger.events.items())[-1]
    verdict = check([*messages[:-1], as_message(event_id, event, partition=1)], ledger)
    assert verdict == Verdict(delivered=EVENTS, reordered=1)


def test_dead_letters_are_not_missing(ledger: Ledger, messages: list[Message]) -> None:
    """They are counted from their table."""
    dead = {list(ledger.events)[9]}
    assert check(messages[:9] + messages[10:], ledger, dead) == Verdict(delivered=EVENTS - 1)


@pytest.fixture
def broker() -> Iterator[MockKafka]:
    """librdkafka's mock cluster."""
    with MockKafka() as server:
        yield server


def test_through_a_broker(broker: MockKafka, ledger: Ledger, messages: list[Message]) -> None:
    """What `consume` reads is what is there, in the order of its partitions."""
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for message in [messages[AGGREGATES], *messages[:9], *messages[10:], messages[3]]:
        producer.produce("orders", message.value(), message.key(), headers=message.headers())
    producer.flush(30)
    verdict = check(consume(broker.bootstrap, "orders"), ledger)
    # order-0: number 1 came before number 0, which is the one that is late; number 1 came again.
    assert verdict == Verdict(delivered=EVENTS - 1, missing=1, reordered=1, duplicates=2)
