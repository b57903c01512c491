"""What the application is going to do."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from outboxd.demo.plan import OF_EACH_FLAW, Flaw, orders, transactions


@given(st.integers(100, 2_000), st.integers(1, 50), st.integers())
def test_a_plan_commits_what_was_asked_for(events: int, aggregates: int, seed: int) -> None:
    """Exactly so many events, with each flaw in the same number, of known orders; what is rolled back comes on top."""
    plan = list(transactions(events, aggregates, random.Random(seed)))
    committed = [flaw for transaction in plan if transaction.commits for flaw in transaction.events]
    assert len(committed) == events
    assert Counter(filter(None, committed)) == dict.fromkeys(Flaw, OF_EACH_FLAW)
    assert {transaction.aggregate_id for transaction in plan} <= set(orders(aggregates))
    before = 0
    for transaction in plan:
        assert transaction.before == before
        assert transaction.events
        before += len(transaction.events) if transaction.commits else 0
