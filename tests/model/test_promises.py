"""Promises 1 and 2 under random interleavings of reads, outcomes, crashes, lane moves, and bells that ring or do not.

The workers are the real ones; the database, the broker and the time are simulated. A broken promise is shown as a
story: what happened, step by step, shrunk to what is needed.

`OUTBOXD_MODEL_EXAMPLES=20000` plays so many runs, at random; without it a few hundred, always the same ones.
"""

import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.model.process import TTL
from tests.model.world import AGGREGATES, Scenario, Step, World

EXAMPLES = int(os.environ.get("OUTBOXD_MODEL_EXAMPLES", "0"))

NORMAL = ["go"] * 8 + ["pick"] * 4 + ["commit"] * 3 + ["tick"] * 3
FAULTS = [
    "begin", "crash", "delayed", "foreign", "freeze", "join", "late", "lock", "lose", "operate", "outage", "poison",
    "ring", "stall", "stop", "trouble",
]  # fmt: skip
COMPANIONS = {
    "begin": ["begin", "finish", "finish"],
    "crash": ["crash", "join"],
    "freeze": ["freeze", "resume", "stall"],
    "lock": ["lock", "lock", "delayed", "poison"],
    "lose": ["lose", "lose", "late"],
    "poison": ["poison", "poison"],
    "ring": ["ring", "fall", "fall", "hang"],
    "stop": ["stop", "join"],
}


@st.composite
def scenarios(draw: st.DrawFn, faults: list[str] = FAULTS) -> Scenario:
    """A few kinds of faults in each, so that each has room."""
    chosen = draw(st.lists(st.sampled_from(faults), unique=True, max_size=5))
    actions = NORMAL + [action for fault in chosen for action in COMPANIONS.get(fault, [fault])]
    step = st.builds(Step, st.sampled_from(actions), st.integers(0, 5), st.integers(0, 3))
    return Scenario(
        hold=draw(st.booleans()),
        processes=draw(st.integers(1, 3)),
        aggregates=draw(st.integers(1, len(AGGREGATES))),
        steps=draw(st.lists(step, min_size=30, max_size=120)),
        bell="ring" in chosen or draw(st.booleans()),
    )


@settings(
    max_examples=EXAMPLES or 150,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(scenarios())
def test_nothing_is_lost_and_nothing_is_reordered(scenario: Scenario) -> None:
    """Whatever happens."""
    World(scenario).live()


def test_a_circuit_closes_where_nothing_is_left_to_probe_with() -> None:
    """The broker was down, and the only event went to another instance with its lane: all are ready in the end."""
    go = Step("go", how=3)
    opened = [Step("outage"), Step("commit"), Step("tick", how=1), *[go] * 6]
    lost = [Step("freeze"), Step("join"), Step("stall"), *[go] * 8, Step("outage"), Step("tick", how=3), *[go] * 8]
    regained = [Step("resume"), *[go, Step("tick", how=3)] * 12]
    world = World(Scenario(hold=False, processes=1, aggregates=1, steps=opened + lost + regained), probe=False)
    world.live()
    assert world.not_ready == {}, "\n".join(world.story)


def test_what_a_killed_daemon_owned_is_served_within_its_lease_and_two_seconds() -> None:
    """It has just renewed its lease. Nobody serves all of it before that ends."""
    go = Step("go", how=3)
    renewed = [Step("tick", how=3), go] * 3
    killed = [Step("crash"), *[Step("commit", which) for which in range(len(AGGREGATES))]]
    for seconds, served in ((TTL - 1, False), (TTL + 2, True)):
        rest = [Step("tick"), *[go] * 4] * round(seconds / 0.1)
        steps = [*renewed, *killed, *rest]
        world = World(Scenario(hold=False, processes=2, aggregates=len(AGGREGATES), steps=steps), probe=False)
        world.live()
        story = "\n".join(world.story)
        assert story.partition("d1 is killed")[0].splitlines()[-2].endswith("d2 renew"), story
        assert (story.partition("-- nothing is broken")[0].count("arrives") == len(AGGREGATES)) == served, story


def test_a_ring_alone_ends_the_rest() -> None:
    """While no time passes an event is delivered if the bell has told of it, and else not: or no bell would matter."""
    go = Step("go", how=3)
    rested = [Step("tick", how=3), go, Step("tick", how=3)]
    written = [Step("commit"), *[go] * 8]
    for bell, steps, in_time in (
        (True, [*rested, *written], True),
        (True, [*rested, Step("fall"), *written], False),
        (False, [*rested, *written], False),
    ):
        world = World(Scenario(hold=False, processes=1, aggregates=1, steps=steps, bell=bell), probe=False)
        world.live()
        story = "\n".join(world.story)
        assert ("arrives" in story.partition("-- nothing is broken")[0]) == in_time, story


def test_nobody_watches_for_what_a_bell_will_tell() -> None:
    """Where it hangs again, what stood in for it ends, also where nothing is written."""
    go, tick = Step("go", how=3), Step("tick", how=3)
    lost = [*[tick, go] * 2, Step("fall", how=1), *[tick, go] * 2]
    for steps, watching in ((lost, ["d1"]), ([*lost, Step("hang"), *[tick, go] * 4], [])):
        world = World(Scenario(hold=False, processes=1, aggregates=1, steps=steps, bell=True), probe=False)
        world.live()
        assert world.watching == watching, "\n".join(world.story)
