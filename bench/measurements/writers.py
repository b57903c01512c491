"""What a program costs the application that writes: its rate with and without it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median, quantiles
from typing import Final

from bench.backlog import migrated_database
from bench.contenders import contenders
from bench.drain import newest_id, wait_until_drained
from bench.measurements import sustained
from bench.measurements.measurement import Measurement, milliseconds, thousands
from bench.program import Outboxd
from bench.scene import Scene
from bench.stage import Contender
from bench.topic import create_topic
from bench.writer import CONNECTIONS, Ledger, Load, Writer, rows_at

SECONDS: Final = 6.0
CALIBRATIONS: Final = 2
"""Runs that find the pause with which the writers reach the rate when nobody disturbs them."""
WITHOUT, WITH = "without the daemon", "with the daemon"
OUTBOXD: Final = Outboxd().name


@dataclass(frozen=True)
class Written:
    """Round by round: events per second, and the seconds of a transaction."""

    way: str
    rates: list[float]
    p50: list[float]
    p99: list[float]


@dataclass(frozen=True)
class Writers:
    """All ways. `aimed_at`: events per second with nobody beside."""

    aimed_at: int
    ways: list[Written]

    def of(self, way: str) -> Written | None:
        """One of them."""
        return next((one for one in self.ways if one.way == way), None)

    def slower(self, way: str = WITH) -> float | None:
        """The share by which a transaction takes longer: of the medians of its p50."""
        without, beside = self.of(WITHOUT), self.of(way)
        return median(beside.p50) / median(without.p50) - 1 if without and beside else None

    def loss(self, way: str = WITH) -> float | None:
        """The share of the rate that it costs: of the medians."""
        without, beside = self.of(WITHOUT), self.of(way)
        return 1 - median(beside.rates) / median(without.rates) if without and beside else None


def measure(scene: Scene) -> Writers:
    """Writers that pause after each transaction, so that what makes one slower lowers their rate."""
    aimed_at = sustained.half(scene)
    if aimed_at is None:
        raise RuntimeError("there is no sustained rate to take half of")
    rows = rows_at(aimed_at)
    seconds = scene.seconds(SECONDS)
    load = Load(round(3 * aimed_at * seconds), rows, CONNECTIONS, seconds=seconds)
    for _ in range(CALIBRATIONS):
        cycle = CONNECTIONS * rows / _alone(scene, load).rate
        load = replace(load, pause=max(0.0, load.pause + CONNECTIONS * rows / aimed_at - cycle))
    with contenders(scene) as found:
        turns = {WITHOUT: partial(_alone, scene, load)}
        turns |= {way_with(one): partial(_beside, scene, load, one) for one in found}
        return Writers(aimed_at, _hold(scene, turns))


def way_with(contender: Contender) -> str:
    """As the table calls it."""
    return WITH if contender.name == OUTBOXD else f"with {contender.name}"


def _hold(scene: Scene, turns: Mapping[str, Callable[[], Ledger]]) -> list[Written]:
    """Every way once a round; who goes first takes turns, too."""
    ledgers: dict[str, list[Ledger]] = {way: [] for way in turns}
    for number in range(1, scene.rounds + 1):
        for way in list(turns)[:: 1 if number % 2 else -1]:
            ledger = turns[way]()
            ledgers[way].append(ledger)
            scene.tell(f"round {number}: {way}: {ledger.rate:,.0f} events/s written")
    return [_summarise(way, done) for way, done in ledgers.items()]


def _alone(scene: Scene, load: Load) -> Ledger:
    topic = create_topic(scene.kafka)
    with migrated_database(scene.server) as database, _writer(scene, database, topic, load) as writer:
        writer.start()
        ledger = writer.finish()
    scene.kafka.delete_topic(topic)
    return ledger


def _beside(scene: Scene, load: Load, contender: Contender) -> Ledger:
    topic = create_topic(scene.kafka)
    with contender.stage() as stage, _writer(scene, stage.database, topic, load) as writer, stage.ready() as process:
        low = newest_id(stage.connection)
        writer.start()
        ledger = writer.finish()
        wait_until_drained(process, stage.connection, scene.kafka, topic, len(ledger.committed), low)
    scene.kafka.delete_topic(topic)
    return ledger


def _writer(scene: Scene, database: str, topic: str, load: Load) -> Writer:
    return Writer(scene.server.url(database), topic, load, scene.folder / f"{topic}.json")


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
            *(
                ("", "")
                if way.way == WITHOUT
                else (f"{-(figures.loss(way.way) or 0):+.1%}", f"{figures.slower(way.way) or 0:+.1%}")
            ),
        )
        for way in figures.ways
    ]


MEASUREMENT: Final = Measurement(
    "writers",
    "Cost to writers",
    lambda scale, rounds: 45 + rounds * (20 + 24 * scale),
    Writers,
    measure,
    ("", "written/s (median)", "rounds", "transaction p50", "p99", "change of the rate", "of the transaction's p50"),
    rows,
)
