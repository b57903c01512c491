"""Drains in interleaved rounds: each program and variant in turn, so that a machine that slows down favours none."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from bench.drain import Drain
from bench.measurements.measurement import cpu_per_event, mebibytes, thousands
from bench.program import BareLoop, Usage
from bench.scene import Scene

BARE_LOOP: Final = BareLoop().name


@dataclass(frozen=True)
class Drained:
    """The drains of one program in one variant. `flaws`: what was missing, repeated, out of order or foreign."""

    variant: str
    program: str
    events: int
    rates: list[float]
    """Events per second, round by round."""
    cpu_us_per_event: float
    peak_rss: int
    first_delivery_seconds: float
    flaws: list[str]

    @property
    def rate(self) -> float:
        """The median."""
        return median(self.rates)


@dataclass(frozen=True)
class Contest:
    """All drains of a measurement."""

    drained: list[Drained]

    def of(self, program: str, variant: str = "") -> Drained | None:
        """One program in one variant."""
        return next((one for one in self.drained if (one.variant, one.program) == (variant, program)), None)

    def ratio(
        self, program: str, variant: str = "", *, to: str = BARE_LOOP, to_variant: str | None = None
    ) -> float | None:
        """Of the median rates; None when one of the two did not run."""
        own = self.of(program, variant)
        other = self.of(to, variant if to_variant is None else to_variant)
        return own.rate / other.rate if own and other else None


Turn = tuple[str, str]
"""A variant and a program."""


def hold(scene: Scene, turns: Mapping[Turn, Callable[[], Drain]], rounds: int) -> Contest:
    """Every turn once a round; who goes first takes turns, too."""
    drains: dict[Turn, list[Drain]] = {turn: [] for turn in turns}
    for number in range(1, rounds + 1):
        order = list(turns.items())
        for (variant, program), drain in order if number % 2 else reversed(order):
            done = drain()
            drains[variant, program].append(done)
            what = f"{program}, {variant}" if variant else program
            scene.tell(f"round {number}: {what}: {done.rate:,.0f} events/s")
    return Contest([summarise(variant, done, scene.starts) for (variant, _), done in drains.items()])


def summarise(variant: str, drains: Sequence[Drain], starts: Mapping[str, Usage]) -> Drained:
    """The rounds as one."""
    program = drains[0].program
    start = starts.get(program, Usage(0, 0))
    return Drained(
        variant,
        program,
        drains[0].events,
        [drain.rate for drain in drains],
        median(drain.cpu_us_per_event(start) for drain in drains),
        max(drain.usage.peak_rss for drain in drains),
        median(drain.first_delivery_seconds for drain in drains),
        [str(drain.delivery) for drain in drains if not drain.delivery.flawless],
    )


HEADINGS: Final = (
    "variant",
    "program",
    "events/s (median)",
    "rounds",
    "of the bare loop",
    "CPU/event",
    "peak RSS",
    "flaws",
)


def rows(contest: Contest) -> Sequence[Sequence[str]]:
    """For a table with HEADINGS."""
    lines = []
    for one in contest.drained:
        ratio = None if one.program == BARE_LOOP else contest.ratio(one.program, one.variant)
        lines.append(
            (
                one.variant,
                one.program,
                thousands(one.rate),
                " ".join(map(thousands, one.rates)),
                f"{ratio:.2f}" if ratio else "",
                cpu_per_event(one.cpu_us_per_event, one.events),
                mebibytes(one.peak_rss),
                "; ".join(one.flaws) or "none",
            )
        )
    return lines
