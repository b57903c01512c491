"""Plays scenarios, in an order and on databases that the seed decides."""

import itertools
import json
import random
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.chaos.result import Result, count_out, judge
from tests.chaos.scenario import SCENARIOS, Scenario
from tests.chaos.scene import LONG_LEASE, SHORT_LEASE, Scene
from tests.chaos.servers import Servers, SharedCluster

LAST_LINES = 25
"""Of each daemon's log, when a scenario failed."""

LONGEST = 600
"""Characters of a log line that are shown."""

_serial = itertools.count(1)


def plan(
    scenarios: Sequence[Scenario], products: Sequence[str], seed: int, *, both: bool
) -> list[tuple[Scenario, str]]:
    """Each scenario once, or once on each database."""
    shuffled = random.Random(f"{seed}/order").sample(scenarios, len(scenarios))
    if both:
        return [(scenario, product) for scenario in shuffled for product in products]
    # By its place in the list, and the other way round with the next seed.
    places = {name: place for place, name in enumerate(SCENARIOS)}
    return [(scenario, products[(places[scenario.name] + seed) % len(products)]) for scenario in shuffled]


def play(
    scenario: Scenario, servers: Servers, shared: SharedCluster, product: str, seed: int, patience: float
) -> Result:
    """One scenario, with three brokers where it needs them, from an empty database to the figures."""
    result = Result(scenario.name, product)
    began = time.monotonic()

    def prepared_and_played() -> None:
        with ExitStack() as stack:
            kafka = stack.enter_context(shared.use()) if scenario.cluster else servers.kafka
            servers.heal()  # the scenario before may have failed at it
            dice = random.Random(f"{seed}/{scenario.name}")
            lease = SHORT_LEASE if scenario.unknown else LONG_LEASE
            scene = Scene(servers, kafka, product, f"chaos_{next(_serial)}", dice, lease, patience)
            _play(scenario, scene, result)

    _attempt(prepared_and_played, result)
    result.seconds = time.monotonic() - began
    return result


def _play(scenario: Scenario, scene: Scene, result: Result) -> None:
    for step in (lambda: scenario.play(scene), scene.heal, scene.finish, scene.close):
        _attempt(step, result)
    _attempt(lambda: count_out(scene, result), result)
    judge(scenario, scene, result)
    result.problems[:0] = scene.problems
    if result.problems:
        result.log = _log(scene)
    _attempt(scene.drop, result)


def _attempt(step: Callable[[], None], result: Result) -> None:
    """What fails is a problem; the steps behind it are tried all the same."""
    try:
        step()
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        result.problems.append(f"{type(error).__name__}: {error} ({place})")


def _log(scene: Scene) -> list[str]:
    """Lines that say the same one after the other are told once."""
    said = []
    for running in scene.running:
        lines = running.daemon.log
        told = [line for before, line in zip([{}, *lines], lines, strict=False) if before.get("event") != line["event"]]
        said += [f"daemon {running.daemon.process.pid}: {json.dumps(line)}"[:LONGEST] for line in told[-LAST_LINES:]]
    return said
