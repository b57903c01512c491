"""The order policy: after a dead letter, whose aggregate waits."""

import pytest

from outboxd.order import OrderPolicy


@pytest.mark.parametrize(
    ("policy", "held"),
    [
        (OrderPolicy(), set()),
        (OrderPolicy(hold=True), {"payments.eu/paid", "orders/made", "Payments.eu/made"}),
        (OrderPolicy(except_topics=("payments.*",)), {"payments.eu/paid"}),
        (OrderPolicy(except_event_types=("made",)), {"orders/made", "Payments.eu/made"}),
        (OrderPolicy(hold=True, except_topics=("payments.*",), except_event_types=("m*",)), set()),
    ],
)
def test_the_patterns_name_the_exceptions(policy: OrderPolicy, held: set[str]) -> None:
    """By topic or by type; case matters."""
    events = ["payments.eu/paid", "orders/made", "Payments.eu/made"]
    assert {event for event in events if policy.holds(*event.split("/"))} == held


def test_it_knows_whether_anything_can_be_held() -> None:
    """So that the store need not ask."""
    assert not OrderPolicy().may_hold
    assert OrderPolicy(except_topics=("a",)).may_hold
    assert OrderPolicy(hold=True).may_hold
