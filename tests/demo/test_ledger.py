"""The account: given what went wrong, it says so."""

import json

import pytest

from outboxd.demo.ledger import Account, Arrival, DeadLetter, Entry, Ledger, account
from outboxd.demo.plan import Flaw
from outboxd.demo.report import as_json, verdict

LEDGER = Ledger(
    committed={
        "a1": Entry("a", 1, {"version": 1}, 10.0, None),
        "a2": Entry("a", 2, {"version": 2}, 10.0, None),
        "a3": Entry("a", 3, {"version": 3}, 10.0, None),
        "b1": Entry("b", 1, {"version": 1}, 20.0, None),
        "b2": Entry("b", 2, None, 20.0, Flaw.SIZE),
    },
    rolled_back={"b9"},
)
DEAD = [DeadLetter("b2", "message_too_large", "message_too_large: it is; shorten it")]


def arrival(event_id: str, at: float = 30.0) -> Arrival:
    entry = LEDGER.committed.get(event_id, Entry("b", 9, {}, 0.0, None))
    return Arrival(event_id, entry.aggregate_id, json.dumps(entry.payload).encode(), at)


def told(*event_ids: str) -> Account:
    return account(LEDGER, [arrival(event_id) for event_id in event_ids], DEAD)


def test_a_good_end() -> None:
    """Aggregates may be mixed; a hopeless event is where it belongs; nothing else is counted."""
    found = told("a1", "b1", "a2", "a3")
    assert found.holds
    assert (found.committed, found.delivered, found.rolled_back, found.duplicates) == (5, 4, 1, 0)
    assert found.dead_letters == {"message_too_large": 1}
    assert "order" in verdict(found)


@pytest.mark.parametrize(
    ("arrivals", "field", "number"),
    [
        pytest.param(["a1", "a2", "a3"], "missing", 1, id="lost"),
        pytest.param(["a1", "a3", "a2", "b1"], "out_of_order", 1, id="reordered"),
        pytest.param(["a3", "a1", "a2", "b1"], "out_of_order", 2, id="two behind one"),
        pytest.param(["a1", "a2", "a3", "b1", "b9"], "rolled_back_delivered", 1, id="rolled back"),
        pytest.param(["a1", "a2", "a3", "b1", "x"], "rolled_back_delivered", 1, id="made up"),
    ],
)
def test_what_goes_wrong_is_found(arrivals: list[str], field: str, number: int) -> None:
    """Each fault is counted under its own name, and only there; the verdict is no."""
    found = told(*arrivals)
    counts = {key: value for key, value in as_json(found).items() if key in FAULTS and value}
    assert counts == {field: number}
    assert not found.holds
    assert str(number) in verdict(found)


FAULTS = {"missing", "out_of_order", "changed", "rolled_back_delivered", "duplicates"}


def test_a_repeat_is_no_disorder() -> None:
    """An event that comes again, behind younger ones, is a duplicate; duplicates are allowed."""
    found = told("a1", "a2", "a1", "a2", "a3", "b1", "a1")
    assert (found.duplicates, found.out_of_order, found.delivered, found.holds) == (3, 0, 4, True)


@pytest.mark.parametrize(
    "wrong",
    [
        Arrival("a1", "b", b'{"version": 1}', 30.0),
        Arrival("a1", "a", b'{"version": 7}', 30.0),
        Arrival("a1", "a", b"no JSON", 30.0),
    ],
)
def test_a_changed_message_is_found(wrong: Arrival) -> None:
    """Another key, another payload, or none that can be read."""
    found = account(LEDGER, [wrong, *map(arrival, ("a2", "a3", "b1"))], DEAD)
    assert (found.changed, found.holds) == (1, False)


def test_a_good_event_among_the_dead_letters_is_missing() -> None:
    """Only an event that has a flaw may end there, and it must."""
    good = DeadLetter("a3", "bad_headers", "bad_headers: no")
    found = account(LEDGER, map(arrival, ("a1", "a2", "b1")), [*DEAD, good])
    assert (found.missing, found.dead_letters["bad_headers"]) == (1, 1)
    assert account(LEDGER, map(arrival, ("a1", "a2", "a3", "b1")), []).missing == 1


def test_latencies() -> None:
    """From the answer to COMMIT to the first arrival; the consumer may be first to know."""
    arrivals = [arrival("a1", 9.9), arrival("a2", 10.5), arrival("a3", 11.0), arrival("a3", 99.0), arrival("b1", 23.0)]
    found = account(LEDGER, arrivals, DEAD)
    assert found.latencies == (0.0, 0.5, 1.0, 3.0)
    assert (found.latency(0.5), found.latency(0.99)) == (1.0, 3.0)
    assert told().latency(0.5) is None
