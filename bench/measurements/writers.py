"""What the daemon costs the application that writes: its rate with and without it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from statistics import median, quantiles
from typing import Final

from bench.backlog import migrated_database
from bench.drain import wait_until_drained
from bench.measurements import sustained
from bench.measurements.measurement import Measurement, milliseconds, thousands
from bench.scene import Scene
from bench.topic import create_topic
from bench.writer import CONNECTIONS, Ledger, Load, Writer, rows_at

SECONDS: Final = 6.0
CALIBRATIONS: Final = 2
"""Runs that find the pause with which the writers reach the rate when nobody disturbs them."""
WITHOUT, WITH = "without the daemon", "with the daemon"

_seeds = count(200_000)


@dataclass(frozen=True)
class Written:
    """Round by round: events per second, and the seconds of a transaction."""

    way: str
    rates: list[float]
    p50: list[float]
    p99: list[float]


@dataclass(frozen=True)
class Writers:
    """Both ways. `aimed_at`: events per second without the daemon."""

    aimed_at: int
    ways: list[Written]

    @property
    def loss(self) -> float:
        """The share of the rate that the daemon costs: of the medians."""
        without, beside = (median(way.rates) for way in self.ways)
        return 1 - beside / without


def measure(scene: Scene) -> Writers:
    """Writers that pause after each transaction, so that what makes one slower lowers their rate."""
    aimed_at = sustained.half(scene)
    if aimed_at is None:
        raise RuntimeError("there is no sustained rate to take half of")
    rows = rows_at(aimed_at)
    seconds = scene.seconds(SECONDS)
    load = Load(round(3 * aimed_at * seconds), rows, CONNECTIONS, seconds=seconds)
    for _ in range(CALIBRATIONS):
        cycle = CONNECTIONS * rows / _write(scene, load, beside=False).rate
        load = replace(load, pause=max(0.0, load.pause + CONNECTIONS * rows / aimed_at - cycle))
    ways: dict[str, list[Ledger]] = {WITHOUT: [], WITH: []}
    for number in range(1, scene.rounds + 1):
        for way in (WITHOUT, WITH) if number % 2 else (WITH, WITHOUT):
            ledger = _write(scene, load, beside=way == WITH)
            ways[way].append(ledger)
            scene.tell(f"round {number}: {way}: {ledger.rate:,.0f} events/s written")
    return Writers(aimed_at, [_summarise(way, ledgers) for way, ledgers in ways.items()])


def _write(scene: Scene, load: Load, *, beside: bool) -> Ledger:
    server, kafka = scene.server, scene.kafka
    topic = create_topic(kafka)
    with migrated_database(server) as database, server.connect(database) as connection:
        url = server.url(database)
        with Writer(url, topic, load, scene.folder / f"{topic}.json") as writer:
            if not beside:
                writer.start()
                ledger = writer.finish()
            else:
                with scene.outboxd().start_ready(url, kafka.bootstrap, scene.log("beside")) as process:
                    writer.start()
                    ledger = writer.finish()
                    wait_until_drained(process, connection, kafka, topic, len(ledger.committed), 0)
                    process.stop()
    kafka.delete_topic(topic)
    return ledger


def _summarise(way: str, ledgers: Sequence[Ledger]) -> Written:
    return Written(
        way,
        [ledger.rate for ledger in ledgers],
        [median(ledger.transactions) for ledger in ledgers],
        [quantiles(ledger.transactions, n=100, method="inclusive")[98] for ledger in ledgers],
    )


def rows(figures: Writers) -> Sequence[Sequence[str]]:
    """For a table."""
    return [
        (
            way.way,
            thousands(median(way.rates)),
            " ".join(map(thousands, way.rates)),
            milliseconds(median(way.p50)),
            milliseconds(median(way.p99)),
            f"{-figures.loss:+.1%}" if way.way == WITH else "",
        )
        for way in figures.ways
    ]


MEASUREMENT: Final = Measurement(
    "writers",
    "Cost to writers",
    80,
    Writers,
    measure,
    ("", "written/s (median)", "rounds", "transaction p50", "p99", "change of the rate"),
    rows,
)
