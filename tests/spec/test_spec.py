"""The model of a lane in docs/spec: TLC finds no error in it, finds each mutation, and it names what the code has."""

import re
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import pytest

from tests.servers.tlc import Tlc

SPEC = Path(__file__).parents[2] / "docs" / "spec"
MODEL = SPEC / "OutboxLane.tla"
MUTATIONS = {
    "lane_in_two_batches": "InOrder",
    "promotion_while_busy": "InOrder",
    "unfenced_retry": "InOrder",
    "torn_read": "InOrder",
    "unknown_is_sent": "SentIsTruthful",
}
"""What is broken, and the property that TLC must see fall."""

PATIENCE = 1200.0
"""Seconds for one run of TLC; the longest takes less than a minute on two idle cores."""

MAPPED = re.compile(r"^\\\* (outboxd\.\S+)\n(\w+)\(", re.MULTILINE)
"""The line above an action, which says where the function is, and the action."""

ENVIRONMENT = {
    *("commit", "requeue", "broker_append", "late_arrival", "crash", "pause", "resume", "ttl_passes"),
    *("server_commits", "server_rolls_back"),
}
"""What the daemon has no function for, because others do it."""

DERIVED = {"promote_unanswered": "_promote", "trusted_lapses": "trusted"}
"""Actions that are one of the ways in which a function can end, and the function."""


def actions() -> set[str]:
    """Every action of the model: what begins with a small letter."""
    return set(re.findall(r"^([a-z]\w*)(?:\([\w, ]+\))? ==$", MODEL.read_text(), re.MULTILINE))


def settings(config: str) -> dict[str, str]:
    """A configuration's constants."""
    return dict(re.findall(r"^    (\w+) = (.+)$", (SPEC / config).read_text(), re.MULTILINE))


def taken(output: str) -> dict[str, int]:
    """How often each action was taken, by TLC's account."""
    lines = re.findall(r"^<(\w+) line .*>: \d+:(\d+)$", output, re.MULTILINE)
    return {name: int(count) for name, count in lines}  # the last account counts


def distinct_states(output: str) -> int:
    found = re.findall(r"^\d+ states generated, (\d+) distinct states found, 0 states left", output, re.MULTILINE)
    assert found, output[-2000:]
    return int(found[-1])


def assert_no_error(output: str, at_least: int) -> None:
    """TLC walked through all states, and they were many: a model in which little can happen proves little."""
    assert "No error has been found" in output, output[-4000:]
    assert distinct_states(output) >= at_least


def test_the_model_keeps_the_promises(tlc: Tlc) -> None:
    """Nothing is lost and nothing is reordered in any state."""
    assert_no_error(tlc.check(MODEL, SPEC / "OutboxLane.cfg", timeout=PATIENCE), 600_000)


def test_everything_is_delivered_or_dead_in_the_end(tlc: Tlc) -> None:
    """Whatever goes wrong, once nothing goes wrong any more; and each action is taken on the way.

    (To count them costs half as much again as to look at all states, so a small model does it.)
    """
    output = tlc.check(MODEL, SPEC / "liveness.cfg", "-lncheck", "final", "-coverage", "1", timeout=PATIENCE)
    assert_no_error(output, 70_000)
    counts = taken(output)
    assert {name for name in actions() if not counts.get(name)} == set(), "actions that were never taken"


def test_aggregates_do_not_get_into_each_others_way(tlc: Tlc) -> None:
    """Two aggregates in the lane, of which one has two events."""
    assert_no_error(tlc.check(MODEL, SPEC / "two_aggregates.cfg", timeout=PATIENCE), 50_000)


def test_the_rules_keep_the_order_without_the_comparison(tlc: Tlc) -> None:
    """So what the mutations below find is the want of a rule."""
    assert_no_error(tlc.check(MODEL, SPEC / "rules_alone.cfg", timeout=PATIENCE), 200_000)


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_broken_rule_is_found(tlc: Tlc, mutation: str) -> None:
    """Each rule is needed: without it, TLC shows how an event overtakes an older one, or is lost."""
    output = tlc.check(MODEL, SPEC / f"mutation_{mutation}.cfg", timeout=PATIENCE)
    assert f"Invariant {MUTATIONS[mutation]} is violated" in output, output[-4000:]


def test_every_mutation_breaks_one_thing() -> None:
    """Each differs from a sound run in one line, besides the bounds (which say how many events there are)."""
    for mutation in MUTATIONS:
        broken = settings(f"mutation_{mutation}.cfg")
        sound = settings("rules_alone.cfg" if broken["TornRead"] == "TRUE" else "OutboxLane.cfg")
        bounds = ("Events", "FirstOfOthers", "MaxTroubles")
        differing = {name for name in sound if sound[name] != broken[name]}.difference(bounds)
        assert differing == {"Unanswered" if mutation == "torn_read" else "Mutation"}
        assert broken["Mutation"] in {f'"{mutation}"', '"none"'}


def test_actions_are_functions_of_the_daemon() -> None:
    """Each action names the function that does it, which exists; so the model and the code cannot drift apart."""
    mapped = {action: path for path, action in MAPPED.findall(MODEL.read_text())}
    assert set(mapped) == actions() - ENVIRONMENT
    for action, path in mapped.items():
        module, owner, name = path.rsplit(".", 2)
        assert hasattr(attrgetter(owner)(import_module(module)), name), f"{path} does not exist"
        assert name.lstrip("_") == action or name == DERIVED[action], f"{action} is not named after {path}"
