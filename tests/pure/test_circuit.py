"""The circuit: when to pause, when to probe."""

from hypothesis import given
from hypothesis import strategies as st

from outboxd.backoff import Backoff
from outboxd.errors import Failure, FailureKind
from outboxd.workers.relay.circuit import Circuit, TopicCircuits

DOWN = Failure(FailureKind.OUTAGE, "no_connection", "no broker")
LEADERLESS = Failure(FailureKind.OUTAGE, "leader_not_available", "no leader")


def test_it_pauses_longer_each_time_and_closes_at_the_first_delivery() -> None:
    """News is what a log line is written for: the first failure, another cause, the end."""
    circuit = Circuit(Backoff(base=1.0, max=4.0, jitter=0.0))
    assert circuit.wait(0.0) == 0.0
    assert [circuit.trip(DOWN, now) for now in (10.0, 20.0)] == [True, False]
    assert circuit.wait(20.0) == 2.0
    assert circuit.wait(22.5) == 0.0
    assert circuit.trip(LEADERLESS, 23.0)
    assert circuit.wait(23.0) == 4.0
    assert circuit.opened_at == 10.0
    assert [circuit.mend(), circuit.mend()] == [True, False]
    assert circuit.wait(23.0) == 0.0
    assert circuit.trip(DOWN, 30.0)
    assert circuit.wait(30.0) == 1.0


def test_a_topic_has_a_circuit_of_its_own() -> None:
    """It opens at the first trouble, is due after its wait, and is forgotten when it closes."""
    circuits = TopicCircuits()
    assert circuits.trip({"a": LEADERLESS, "b": LEADERLESS}, 0.0) == {"a": LEADERLESS, "b": LEADERLESS}
    assert circuits.trip({"a": LEADERLESS}, 0.1) == {}
    assert circuits.due(0.0) is None
    assert circuits.due(100.0) == "b", "the one that waited longest"
    assert circuits.due(100.1) is None, "one at a time, however many are paused"
    assert circuits.due(100.3) == "a"
    assert list(circuits.mend({"b", "c"})) == ["b"]
    assert list(circuits.paused) == ["a"]
    assert circuits.mend({"b"}) == {}


@given(dice=st.floats(0, 1, exclude_max=True), failures=st.integers(1, 200), now=st.floats(0, 1e9))
def test_a_wait_is_bounded(dice: float, failures: int, now: float) -> None:
    """However long the outage, the next probe is at most five seconds away; mended, there is no wait."""
    circuit = Circuit(Backoff(base=0.25, max=5.0, jitter=0.2, random=lambda: dice))
    for _ in range(failures):
        circuit.trip(DOWN, now)
        assert 0 < circuit.wait(now) <= 5.0 + 1e-6
    circuit.mend()
    assert circuit.wait(now) == 0.0
