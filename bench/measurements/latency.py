"""From COMMIT to the consumer, at several rates: with polling, with the doorbell, and by the peers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

from bench.contenders import bare_loop, outboxd, peers
from bench.latency import Latency, latency_of, measure_floor, middle
from bench.measurements import sustained
from bench.measurements.measurement import Measurement, milliseconds, thousands
from bench.program import BELL
from bench.scene import Scene
from bench.stage import Contender

RATES: Final = (1, 50, 500, 5000)
FLOOR_RATES: Final = (50, 500)
UNTUNED_RATES: Final = (50,)
"""Of the peer with default settings; all others are measured at all rates."""
SITTINGS: Final = {50: 3, 500: 3}
"""How often a rate is measured for outboxd, each way in turn; the others' are measured once."""
SECONDS: Final = 6.0
SECONDS_AT_ONE: Final = 15.0
"""At one event a second: the fewer there are, the longer it takes to have some."""
POLLING, DOORBELL = "polling", "doorbell"
FLOOR: Final = "Kafka alone"
"""A producer in the place of database and daemon: nobody is faster."""


@dataclass(frozen=True)
class Line:
    """One way at one rate."""

    program: str
    way: str
    latency: Latency


@dataclass(frozen=True)
class Latencies:
    """All lines. `bell`: why the doorbell was left out, or empty."""

    lines: list[Line]
    bell: str

    def of(self, program: str, way: str, per_second: int) -> Latency | None:
        """One line."""
        wanted = (program, way, per_second)
        return next(
            (one.latency for one in self.lines if (one.program, one.way, one.latency.per_second) == wanted), None
        )


def measure(scene: Scene) -> Latencies:
    """outboxd rate by rate, its ways in turns; then the others, one after the other."""
    lines: list[Line] = []
    ways = {POLLING: outboxd(scene)}
    if scene.bell:
        scene.tell(f"NOT MEASURED with the doorbell: {scene.bell}")
    else:
        ways[DOORBELL] = outboxd(scene, BELL)
    half = sustained.half(scene)
    every = sorted({*RATES, *([half] if half else [])})
    for rate in every:
        for line in _in_turns(scene, ways, rate):
            _note(scene, lines, line)
        _note(scene, lines, _line(scene, bare_loop(scene), POLLING, rate))
    for rate in FLOOR_RATES:
        floor = measure_floor(scene.server, scene.kafka, per_second=rate, seconds=seconds(scene, rate))
        _note(scene, lines, Line(FLOOR, "", floor))
    for tuned, rates in ((False, UNTUNED_RATES), (True, every)):
        with peers(scene, tuned=[tuned]) as others:
            for peer, rate in product(others, rates):
                _note(scene, lines, _line(scene, peer, "", rate))
    return Latencies(lines, scene.bell)


def _in_turns(scene: Scene, ways: Mapping[str, Contender], rate: int) -> Iterator[Line]:
    """Each way as often as the rate has sittings; who goes first takes turns, too."""
    sittings: dict[str, list[Line]] = {way: [] for way in ways}
    for number in range(SITTINGS.get(rate, 1)):
        for way in list(ways)[:: -1 if number % 2 else 1]:
            sittings[way].append(_line(scene, ways[way], way, rate))
    for way, lines in sittings.items():
        yield Line(lines[0].program, way, middle([line.latency for line in lines]))


def _line(scene: Scene, contender: Contender, way: str, rate: int) -> Line:
    with contender.stage() as stage, stage.ready() as process:
        ledger = scene.log("ledger").with_suffix(".json")
        done = latency_of(
            process,
            scene.server,
            stage.database,
            scene.kafka,
            ledger,
            per_second=rate,
            seconds=seconds(scene, rate),
        )
    return Line(contender.name, way, done)


def seconds(scene: Scene, rate: int) -> float:
    """How long a rate is measured."""
    return scene.seconds(SECONDS_AT_ONE if rate == 1 else SECONDS, least=3.0 if rate == 1 else 1.0)


def _note(scene: Scene, lines: list[Line], line: Line) -> None:
    lines.append(line)
    scene.tell(
        f"{line.program} {line.way}, {line.latency.per_second:,}/s: "
        f"p50 {milliseconds(line.latency.p50)}, p99 {milliseconds(line.latency.p99)}"
    )


def rows(figures: Latencies) -> Sequence[Sequence[str]]:
    """For a table."""
    lines = [
        (
            line.program,
            line.way,
            thousands(line.latency.per_second),
            thousands(line.latency.events),
            *map(milliseconds, (line.latency.p50, line.latency.p95, line.latency.p99, line.latency.max)),
        )
        for line in figures.lines
    ]
    if figures.bell:
        lines.append(("outboxd", DOORBELL, "", f"not measured: {figures.bell}", "", "", "", ""))
    return lines


MEASUREMENT: Final = Measurement(
    "latency",
    "From COMMIT to the consumer",
    lambda scale, _: 270 + 230 * scale,
    Latencies,
    measure,
    ("program", "", "events/s", "events", "p50", "p95", "p99", "max"),
    rows,
)
