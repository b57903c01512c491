"""Plays scenarios, in an order and on databases that the seed decides."""

import itertools
import json
import random
import time
from collections.abc import Sequence
from contextlib import suppress

from tests.chaos.result import Result, count_out, judge
from tests.chaos.scenario import SCENARIOS, Scenario
from tests.chaos.scene import Scene
from tests.chaos.servers import Servers, SharedCluster, revive

LAST_LINES = 25
"""Of each daemon's log, when a scenario failed."""

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


def play(scenario: Scenario, servers: Servers, shared: SharedCluster, product: str, seed: int) -> Result:
    """One scenario, with three brokers where it needs them."""
    dice = random.Random(f"{seed}/{scenario.name}")
    database = f"chaos_{next(_serial)}"
    if not scenario.cluster:
        return _play(scenario, Scene(servers, servers.kafka, product, database, dice))
    with shared.use() as cluster:
        revive(*cluster.brokers)
        return _play(scenario, Scene(servers, cluster, product, database, dice))


def _play(scenario: Scenario, scene: Scene) -> Result:
    """From the empty database to the figures. Whatever happens in it, the servers are healed behind it."""
    result = Result(scenario.name, scene.product)
    began = time.monotonic()
    try:
        try:
            scenario.play(scene)
        finally:
            scene.heal()
        scene.finish()
    except Exception as error:
        result.problems.append(f"{type(error).__name__}: {error}")
    try:
        scene.close()
        count_out(scene, result)
        judge(scenario, scene, result)
    except Exception as error:
        result.problems.append(f"could not be counted out: {type(error).__name__}: {error}")
    result.problems[:0] = scene.problems
    if result.problems:
        result.log = _log(scene)
    with suppress(Exception):
        scene.server.drop_database(scene.database)
    result.seconds = time.monotonic() - began
    return result


def _log(scene: Scene) -> list[str]:
    return [
        f"daemon {running.daemon.process.pid}: {json.dumps(line)}"
        for running in scene.running
        for line in running.daemon.log[-LAST_LINES:]
    ]
