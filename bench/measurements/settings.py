"""What settings pay: the same backlog with default settings, with rows deleted when they are sent, with less logged."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Final

from bench.backlog import PAYLOAD, fill, make_events, migrated_database
from bench.counters import counters, cpu, difference
from bench.drain import wait_until_drained
from bench.measurements.measurement import Measurement, cpu_per_event, thousands
from bench.scene import Scene, fewer
from bench.topic import compare, create_topic, read_topic
from tests.servers.sql import SqlServer

EVENTS: Final = 100_000
AGGREGATES: Final = 1000
CLOCK: Final = 0.001
"""Seconds: the broker's time has no less."""


@dataclass(frozen=True)
class Variant:
    """The daemon's settings, and the server's `binlog_row_image`."""

    name: str
    settings: tuple[str, ...] = ()
    image: str = "FULL"


DEFAULT: Final = Variant("default")
DELETED: Final = Variant("retention.sent=0s", ("retention.sent=0s",))
MINIMAL: Final = Variant("binlog_row_image=MINIMAL", image="MINIMAL")
BOTH: Final = Variant("both", DELETED.settings, MINIMAL.image)
VARIANTS: Final = (DEFAULT, DELETED, MINIMAL, BOTH)


@dataclass(frozen=True)
class Setting:
    """One variant. Bytes and CPU are per event, medians of the rounds; `cpu_us`: by process: daemon, database."""

    variant: str
    events: int
    rates: list[float]
    """Events per second, round by round."""
    binlog_bytes: float
    redo_bytes: float
    cpu_us: dict[str, float]
    flaws: list[str]

    @property
    def rate(self) -> float:
        """The median."""
        return median(self.rates)


@dataclass(frozen=True)
class Settings:
    """All variants, the default first."""

    variants: list[Setting]

    def of(self, variant: str) -> Setting | None:
        """One of them."""
        return next((one for one in self.variants if one.variant == variant), None)


@dataclass(frozen=True)
class Observation:
    """What was counted from the start of the daemon until it had ended, and the database had purged behind it."""

    seconds: float
    """Until everything was delivered and settled."""
    rate: float
    counted: dict[str, float]
    cpu: dict[str, float]
    flaw: str


def measure(scene: Scene) -> Settings:
    """In rounds, each variant in turn; less runs with nothing to do, by default settings, of the same length."""
    events = scene.events(EVENTS, least=1000)
    found: dict[Variant, list[Observation]] = {variant: [] for variant in VARIANTS}
    idle = []
    for number in range(1, scene.fewer_rounds + 1):
        for variant in VARIANTS if number % 2 else reversed(VARIANTS):
            done = observe(scene, variant, events)
            found[variant].append(done)
            scene.tell(f"round {number}: {variant.name}: {done.rate:,.0f} events/s")
        idle.append(observe(scene, DEFAULT, 0, median(rounds[-1].seconds for rounds in found.values())))
    variants = [summarise(variant, events, rounds, idle) for variant, rounds in found.items()]
    for variant, one in zip(found, variants, strict=True):
        if variant.image == "MINIMAL" and one.binlog_bytes >= PAYLOAD:
            raise RuntimeError(f"{variant.name} was not the daemon's: it logged {one.binlog_bytes:.0f} bytes per event")
    return Settings(variants)


def observe(scene: Scene, variant: Variant, events: int, seconds: float = 0.0) -> Observation:
    """Starts a daemon on a backlog, and counts until that is drained, and until so many seconds have passed."""
    server, kafka = scene.server, scene.kafka
    written, topic = make_events(events, AGGREGATES), create_topic(kafka)
    with (
        row_image(server, variant.image),
        migrated_database(server) as database,
        server.connect(database) as connection,
    ):
        fill(connection, written, topic)
        scene.wait_until_calm()
        before, used, began = counters(connection), cpu({"database": server.pid}), time.monotonic()
        program = scene.outboxd(*variant.settings)
        with program.start(server.url(database), kafka.bootstrap, scene.log("settings")) as process:
            wait_until_drained(process, connection, kafka, topic, events, 0)
            while (passed := time.monotonic() - began) < seconds:
                time.sleep(min(0.1, seconds - passed))
                process.check()
            own = process.stop().cpu_seconds
        scene.wait_until_calm()  # deleted rows are purged behind the drain, and that is part of the price
        counted = difference(counters(connection), before)
        spent = difference(cpu({"database": server.pid}), used) | {"daemon": own}
    messages = list(read_topic(kafka, topic))
    kafka.delete_topic(topic)
    delivery = compare(messages, written)
    times = [message.appended_ms / 1000 for message in messages] or [0.0]
    rate = events / max(CLOCK, max(times) - min(times))
    return Observation(passed, rate, counted, spent, "" if delivery.flawless else str(delivery))


@contextmanager
def row_image(server: SqlServer, image: str) -> Iterator[None]:
    """What sessions that begin meanwhile log of a row; that of the others stays as it is."""
    before = server.query("SELECT @@GLOBAL.binlog_row_image")[0][0]
    server.query(f"SET GLOBAL binlog_row_image = {image}")
    try:
        yield
    finally:
        server.query(f"SET GLOBAL binlog_row_image = {before}")


def summarise(variant: Variant, events: int, rounds: Sequence[Observation], idle: Sequence[Observation]) -> Setting:
    """The rounds as one."""

    def counted(name: str) -> float:
        return (median(one.counted[name] for one in rounds) - median(one.counted[name] for one in idle)) / events

    def spent(process: str) -> float:
        return (median(one.cpu[process] for one in rounds) - median(one.cpu[process] for one in idle)) / events * 1e6

    return Setting(
        variant.name,
        events,
        [one.rate for one in rounds],
        counted("binlog_bytes"),
        counted("redo_bytes"),
        {process: spent(process) for process in ("daemon", "database")},
        [one.flaw for one in rounds if one.flaw],
    )


def rows(figures: Settings) -> Sequence[Sequence[str]]:
    """For a table."""
    base = figures.variants[0].rate
    return [
        (
            one.variant,
            thousands(one.rate),
            " ".join(map(thousands, one.rates)),
            f"{one.rate / base:.2f}",
            f"{one.binlog_bytes:.0f} bytes",
            f"{one.redo_bytes:.0f} bytes",
            *(cpu_per_event(one.cpu_us[process], one.events) for process in ("daemon", "database")),
            "; ".join(one.flaws) or "none",
        )
        for one in figures.variants
    ]


MEASUREMENT: Final = Measurement(
    "settings",
    "What settings pay",
    lambda scale, rounds: fewer(rounds) * (34 + 56 * scale),
    Settings,
    measure,
    (
        "setting",
        "events/s (median)",
        "rounds",
        "of the default",
        "binary log/event",
        "redo/event",
        "CPU of the daemon/event",
        "of the database/event",
        "flaws",
    ),
    rows,
)
