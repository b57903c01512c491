"""Where the time goes at 500 events a second with the doorbell: by thread and process, and by function."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench import sampling
from bench.backlog import migrated_database
from bench.counters import counters, difference
from bench.measurements.measurement import Measurement
from bench.program import BELL
from bench.scene import Scene
from bench.topic import create_topic
from bench.writer import Writer, steady

RATE: Final = 500
SECONDS: Final = 8
"""Behind the warm-up."""
WARM_UP: Final = 2.0
FUNCTIONS: Final = 8
"""How many of the functions are shown, the most frequent ones."""
EVENT_LOOP: Final = "MainThread"
LEAST: Final = 0.01
"""Share of a core below which a thread is not worth a line."""


@dataclass(frozen=True)
class Share:
    """Of one thread or process. `cpu` and `waited`: shares of a core; `sleeps`: per second."""

    name: str
    cpu: float
    waited: float
    sleeps: float


@dataclass(frozen=True)
class Profile:
    """`batches`: per second. `functions`: of the event loop's thread, the share of its looks."""

    batches: float
    shares: list[Share]
    functions: dict[str, float]
    missing: str
    """Why there is none, or empty."""


def measure(scene: Scene) -> Profile:
    """The daemon's threads, the database and the broker, while an application writes."""
    missing = scene.bell or ("" if sampling.find() else "py-spy is not installed: pip install --group bench")
    if missing:
        scene.tell(f"NOT MEASURED: {missing}")
        return Profile(0.0, [], {}, missing)
    topic = create_topic(scene.kafka)
    with migrated_database(scene.server) as database:
        profile = _profile(scene, database, topic)
    scene.kafka.delete_topic(topic)
    return profile


def _profile(scene: Scene, database: str, topic: str) -> Profile:
    url, log = scene.server.url(database), scene.log("profile")
    seconds = max(2, round(scene.seconds(SECONDS)))
    load = steady(RATE, WARM_UP + 1 + seconds + 1)
    with (
        scene.server.connect(database) as connection,
        scene.outboxd(BELL).start_ready(url, scene.kafka.bootstrap, log) as process,
        Writer(url, topic, load, log.with_suffix(".json")) as writer,
    ):
        pids = {"daemon": process.pid, "database": scene.server.pid, "broker": scene.kafka.pid}
        writer.start()
        time.sleep(WARM_UP)
        before, counted, began = _accounts(pids), counters(connection), time.monotonic()
        samples = sampling.sample(process.pid, seconds, log.with_suffix(".raw"))
        passed = time.monotonic() - began
        after, counted = _accounts(pids), difference(counters(connection), counted)
        writer.finish()
        process.stop()
    shares = [
        _share(samples.names.get(thread, f"thread {thread}"), after["daemon"][thread] - account, passed)
        for thread, account in before["daemon"].items()
        if thread in after["daemon"]
    ]
    return Profile(
        counted["update"] / passed,
        [
            *sorted((one for one in shares if one.cpu + one.waited >= LEAST), key=lambda one: -one.cpu),
            *(
                _share(name, sampling.total(after[name]) - sampling.total(before[name]), passed)
                for name in ("database", "broker")
            ),
        ],
        _functions(samples),
        "",
    )


def _functions(samples: sampling.Samples) -> dict[str, float]:
    tops = samples.tops.get(EVENT_LOOP, Counter())
    return {name: times / tops.total() for name, times in tops.most_common(FUNCTIONS)}


def _accounts(pids: dict[str, int]) -> dict[str, dict[int, sampling.Account]]:
    return {name: sampling.accounts(pid) for name, pid in pids.items()}


def _share(name: str, account: sampling.Account, seconds: float) -> Share:
    return Share(name, account.cpu / seconds, account.waited / seconds, account.sleeps / seconds)


def rows(figures: Profile) -> Sequence[Sequence[str]]:
    """For a table: threads and processes, then functions."""
    if figures.missing:
        return [(f"not measured: {figures.missing}", "", "", "", "", "")]
    batches = figures.batches or 1
    lines = [
        (
            one.name,
            f"{one.cpu:.1%}",
            f"{one.waited:.1%}",
            f"{one.sleeps:.0f}",
            f"{one.cpu / batches * 1000:.2f} ms",
            f"{one.waited / batches * 1000:.2f} ms",
        )
        for one in figures.shares
    ]
    lines += [
        (f"{EVENT_LOOP} in {name}", f"{share:.0%} of it", "", "", "", "") for name, share in figures.functions.items()
    ]
    return [(f"{figures.batches:.0f} batches/s", "", "", "", "", ""), *lines]


MEASUREMENT: Final = Measurement(
    "profile",
    "Where the time goes",
    lambda scale, _: 10 + 8 * scale,
    Profile,
    measure,
    ("", "CPU", "waits for a core", "sleeps/s", "CPU per batch", "waits per batch"),
    rows,
)
