"""The table of transitions, and the decisions taken by it."""

import itertools

import pytest

from outboxd.backoff import Backoff, Strategy
from outboxd.errors import FailureKind
from outboxd.lifecycle import (
    TRANSITIONS,
    Happening,
    IllegalTransitionError,
    RetryPolicy,
    Transition,
    crash_batch_limit,
    decide,
    happening_of,
)
from outboxd.model import MAX_INT32, Status

POLICY = RetryPolicy(3, Backoff(Strategy.FIXED, base=7.0, jitter=0.0))
NEW, SENT, RETRY, ERROR, PROCESSING = Status


@pytest.mark.parametrize(
    ("status", "happening", "attempts", "expected"),
    [
        (NEW, Happening.DELIVERED, 0, Transition(SENT, 0)),
        (NEW, Happening.DELIVERED, 2, Transition(SENT, 0)),
        (NEW, Happening.FAILED, 0, Transition(RETRY, 1, 7.0)),
        (NEW, Happening.FAILED, 1, Transition(RETRY, 1, 7.0)),
        (NEW, Happening.FAILED, 2, Transition(ERROR, 1)),
        (NEW, Happening.FAILED, MAX_INT32, Transition(ERROR, 0)),
        (NEW, Happening.FAILED, -5, Transition(RETRY, 1, 7.0)),
        (NEW, Happening.REFUSED, 0, Transition(ERROR, 1)),
        (NEW, Happening.HELD, 2, Transition(RETRY, 0)),
        (NEW, Happening.UNRESOLVED, 2, Transition(NEW, 0)),
        (NEW, Happening.OWNER_DIED, 1, Transition(NEW, 1)),
        (NEW, Happening.OWNER_DIED, 2, Transition(NEW, 1)),
        (PROCESSING, Happening.STUCK, 0, Transition(NEW, 1)),
        (PROCESSING, Happening.STUCK, 2, Transition(ERROR, 1)),
        (RETRY, Happening.DUE, 1, Transition(NEW, 0)),
        (None, Happening.UNKNOWN_STATUS, 0, Transition(ERROR, 0)),
        (None, Happening.UNKNOWN_STATUS, MAX_INT32, Transition(ERROR, 0)),
    ],
)
def test_decisions(status: Status | None, happening: Happening, attempts: int, expected: Transition) -> None:
    """Each row of the design's table."""
    assert decide(status, happening, attempts, POLICY) == expected


@pytest.mark.parametrize(("attempts", "status"), [(0, NEW), (1, NEW), (2, ERROR), (9, ERROR)])
def test_only_an_event_that_was_alone_can_be_blamed_for_a_death(attempts: int, status: Status) -> None:
    """And only at its last attempt."""
    assert decide(NEW, Happening.OWNER_DIED, attempts, POLICY, was_alone=True).status is status
    assert decide(NEW, Happening.OWNER_DIED, attempts, POLICY).status is NEW


def test_whatever_is_decided_stands_in_the_table() -> None:
    """For every legal pair, every count and both answers to the question of blame."""
    for (status, happening), allowed in TRANSITIONS.items():
        for attempts, alone in itertools.product((-1, 0, 1, 2, 3, MAX_INT32), (True, False)):
            assert decide(status, happening, attempts, POLICY, was_alone=alone).status in allowed


def test_everything_else_is_illegal() -> None:
    """Nothing happens to a row that is sent, for example."""
    legal = set(TRANSITIONS)
    for pair in itertools.product((*Status, None), Happening):
        if pair not in legal:
            with pytest.raises(IllegalTransitionError):
                decide(*pair, 0, POLICY)


def test_an_outage_is_not_the_events_fault() -> None:
    """No kind of failure that concerns the broker costs an attempt."""
    for kind in (FailureKind.OUTAGE, FailureKind.PAUSE, FailureKind.REBUILD):
        transition = decide(NEW, happening_of(kind), 2, POLICY)
        assert transition == Transition(NEW, 0)


def test_the_batch_after_a_crash_shrinks_to_one_within_three_crashes() -> None:
    """1,000, then 30, then 1."""
    assert [crash_batch_limit(attempts, 1000) for attempts in (0, 1, 2, 3)] == [1000, 30, 1, 1]
    assert crash_batch_limit(1, 10) == 10
