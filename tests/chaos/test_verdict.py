"""A scenario's figures are held against what it expects, and the seed decides the rest."""

from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from tests.chaos.__main__ import main
from tests.chaos.report import total
from tests.chaos.result import Result, judge
from tests.chaos.run import plan
from tests.chaos.scenario import MEGABYTE, Scenario
from tests.chaos.scenarios import SCENARIOS

EXPECTED = Scenario(
    "one", "", lambda scene: None, attempts=1, unknown=False, cluster=False, long=False, memory=MEGABYTE
)


def scene(
    *, explained: int = 0, stalls: int = 0, memory: int = MEGABYTE, log: list[dict[str, str]] | None = None
) -> Any:
    """What `judge` looks at."""
    running = SimpleNamespace(daemon=SimpleNamespace(log=log or []))
    return SimpleNamespace(explained=explained, stalls=stalls, recoveries=[1.0, 2.0], peak=memory, running=[running])


def judged(played: Any, **figures: int) -> Result:
    """The result of a scenario with these figures."""
    result = Result("one", "mysql", **({"committed": 100, "delivered": 100} | figures))
    judge(EXPECTED, played, result)
    return result


def test_as_expected() -> None:
    """Figures within the expectation pass; the longest recovery counts."""
    result = judged(scene(explained=10, stalls=1), duplicates=10, attempts=1)
    assert result.passed
    assert (result.explained, result.recovery) == (10, 2.0)


@pytest.mark.parametrize(
    ("played", "figures", "problem"),
    [
        (scene(), {"duplicates": 1}, "without a fault"),
        (scene(explained=600), {"duplicates": 1}, "without a fault"),
        (scene(explained=10, stalls=1), {"duplicates": 11}, "only 10 can be explained"),
        (scene(), {"attempts": 2}, "spent 2 attempts"),
        (scene(memory=2 * MEGABYTE), {}, "2 MB of memory"),
        (scene(), {"committed": 0}, "nothing was written"),
        (scene(log=[{"event": "relay.batch_failed", "exception": "Traceback\nKeyError"}]), {}, "1 tracebacks"),
        (scene(log=[{"event": "events.given_up"}] * 200), {}, "200 log lines"),
    ],
)
def test_not_as_expected(played: Any, figures: dict[str, int], problem: str) -> None:
    """Each is one problem, and enough to fail."""
    (told,) = judged(played, **figures).problems
    assert problem in told


def test_a_long_run_is_summed_up() -> None:
    """Events add up, the worst memory and recovery count, and one failure is enough."""
    once = Result("one", "mysql", committed=10, missing=1, memory=5, recovery=2.0, problems=["lost"])
    again = Result("one", "mysql", committed=20, memory=7, recovery=1.0)
    other = Result("one", "mariadb", committed=1)
    whole, rest = total([once, other, again])
    assert (whole.rounds, whole.committed, whole.missing, whole.memory, whole.recovery) == (2, 30, 1, 7, 2.0)
    assert not whole.passed
    assert (rest.rounds, rest.committed, rest.passed) == (1, 1, True)


def test_a_seed_decides_order_and_databases() -> None:
    """The same again with the same seed, each scenario once; with `both`, once on each."""
    chosen, products = list(SCENARIOS.values()), ["mariadb", "mysql"]
    once = plan(chosen, products, 7, both=False)
    assert once == plan(chosen, products, 7, both=False) != plan(chosen, products, 8, both=False)
    assert sorted(scenario.name for scenario, _ in once) == sorted(SCENARIOS)
    # With the next seed each is on the other database.
    assert {*once, *plan(chosen, products, 8, both=False)} == {*plan(chosen, products, 7, both=True)}
    assert len(plan(chosen, products, 7, both=True)) == 2 * len(SCENARIOS)


def test_the_command_names_the_scenarios() -> None:
    """With what they do; and says so when asked for one that is not there."""
    listed = CliRunner().invoke(main, ["--list"]).output
    assert len(SCENARIOS) >= 28
    assert all(f"{scenario.name} " in listed and scenario.summary in listed for scenario in SCENARIOS.values())
    wrong = CliRunner().invoke(main, ["--scenario", "nothing"])
    assert wrong.exit_code == 2
    assert "no scenario nothing" in wrong.output
    assert "'5' is no duration" in CliRunner().invoke(main, ["--duration", "5"]).output
