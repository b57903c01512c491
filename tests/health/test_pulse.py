"""The pulse: which loops are silent for too long."""

from outboxd.pulse import Pulse


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_loop_is_stale_once_a_turn_takes_longer_than_allowed() -> None:
    """Up to the allowed time a loop is fine, beyond it is stale by the difference, and a beat makes it fine again."""
    pulse = Pulse(clock := Clock())
    pulse.register("relay", 10)
    clock.now += 10
    assert pulse.stale() == {}
    clock.now += 5
    assert pulse.stale() == {"relay": 5.0}
    pulse.beat("relay")
    assert pulse.stale() == {}


def test_a_rest_is_not_silence() -> None:
    """A loop that announces that it waits may do so, on top of the time for its turn."""
    pulse = Pulse(clock := Clock())
    pulse.register("retention", 10)
    pulse.beat("retention", rest=3600)
    clock.now += 3610
    assert pulse.stale() == {}
    clock.now += 1
    assert pulse.stale() == {"retention": 1.0}


def test_loops_are_told_apart() -> None:
    """One loop's beats do not help another."""
    pulse = Pulse(clock := Clock())
    pulse.register("relay", 10)
    pulse.register("mover", 10)
    clock.now += 11
    pulse.beat("relay")
    assert set(pulse.stale()) == {"mover"}


def test_a_loop_that_ended_is_not_missed() -> None:
    """After `forget` a loop is not stale, and a late beat does not bring it back."""
    pulse = Pulse(clock := Clock())
    pulse.register("relay", 10)
    pulse.forget("relay")
    pulse.beat("relay")
    clock.now += 100
    assert (pulse.stale(), pulse.checks()) == ({}, {})


def test_checks_name_every_loop_with_its_reason() -> None:
    """The checks list the loops that move, too, and say of the others for how long and against what limit."""
    pulse = Pulse(clock := Clock())
    pulse.register("relay", 10)
    pulse.register("mover", 60)
    clock.now += 30
    assert pulse.checks() == {"relay": "overdue for 20 s; one turn may take 10 s", "mover": None}
