"""Delays between attempts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outboxd.backoff import Backoff, Strategy


@pytest.mark.parametrize(
    ("strategy", "delays"),
    [
        (Strategy.EXPONENTIAL, [60, 120, 240, 480, 960, 1800, 1800]),
        (Strategy.LINEAR, [60, 120, 180, 240, 300, 360, 420]),
        (Strategy.FIXED, [60, 60, 60, 60, 60, 60, 60]),
    ],
)
def test_the_three_strategies_of_the_go_library(strategy: Strategy, delays: list[float]) -> None:
    """With its defaults, without jitter."""
    backoff = Backoff(strategy, jitter=0.0)
    assert [backoff.delay(attempt) for attempt in range(1, 8)] == delays


@given(
    strategy=st.sampled_from(Strategy),
    base=st.floats(0, 1e6),
    maximum=st.floats(0, 1e7),
    jitter=st.floats(0, 1),
    attempt=st.integers(-(2**31), 2**31 - 1),
    dice=st.floats(0, 1, exclude_max=True),
)
def test_a_delay_is_never_negative_nor_above_the_maximum(
    strategy: Strategy, base: float, maximum: float, jitter: float, attempt: int, dice: float
) -> None:
    """For any count, also one that no event can reach."""
    assert 0 <= Backoff(strategy, base, maximum, jitter, lambda: dice).delay(attempt) <= maximum


@given(jitter=st.floats(0, 1), dice=st.floats(0, 1, exclude_max=True), attempt=st.integers(1, 4))
def test_jitter_stays_within_its_share(jitter: float, dice: float, attempt: int) -> None:
    """Below the maximum, the delay is the plain one give or take `jitter` of it."""
    plain = Backoff(jitter=0.0).delay(attempt)
    assert abs(Backoff(jitter=jitter, random=lambda: dice).delay(attempt) - plain) <= jitter * plain + 1e-9
