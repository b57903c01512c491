"""`python -m tests.chaos`: every scenario once, or for as long as it is told."""

import itertools
import json
import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import click
from rich.console import Console

from tests.chaos import report
from tests.chaos.result import Result
from tests.chaos.run import plan, play
from tests.chaos.scenarios import GROUPS, SCENARIOS, Scenario
from tests.chaos.servers import DATABASES, Servers, SharedCluster
from tests.servers.cache import UnavailableError

UNITS = {"s": 1, "m": 60, "h": 3600}


def _duration(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    if not (text[:-1].isdigit() and text[-1] in UNITS):
        raise click.BadParameter(f"{text!r} is no duration; write for example 90s, 60m or 2h")
    return float(text[:-1]) * UNITS[text[-1]]


def _list() -> None:
    for group in GROUPS:
        click.echo(f"\n{(group.__doc__ or '').strip()}")
        for scenario in SCENARIOS.values():
            if scenario.play.__module__ == group.__name__:
                long = " (only when asked for, or in a long run)" if scenario.long else ""
                click.echo(f"  {scenario.name:34} {scenario.summary}{long}")


def _turns(
    chosen: Sequence[Scenario], products: Sequence[str], seed: int, end: float | None, *, both: bool
) -> Iterator[tuple[Scenario, str, int]]:
    """Once; with an end, again and again until then, each round with the next seed."""
    for round_seed in itertools.count(seed):
        for scenario, product in plan(chosen, products, round_seed, both=both):
            if end is not None and time.monotonic() >= end:
                return
            yield scenario, product, round_seed
        if end is None:
            return


class Run:
    """Several tracks, each with servers of its own, play the turns side by side: most of a fault is waiting."""

    def __init__(
        self,
        turns: Iterator[tuple[Scenario, str, int]],
        products: Sequence[str],
        *,
        seed: int,
        patience: float,
        file: Path | None,
    ) -> None:
        self._seed = seed
        self._file = file
        self._turns = turns
        self._products = products
        self._patience = patience
        self._cluster = SharedCluster()
        self._lock = threading.Lock()
        self.results: list[Result] = []

    def play(self, tracks: int) -> None:
        """Returns when no turn is left."""
        with closing(self._cluster), ThreadPoolExecutor(tracks) as threads:
            try:
                for track in [threads.submit(self._track) for _ in range(tracks)]:
                    track.result()
            finally:
                self._turns = iter(())  # after Ctrl-C, or a track that failed, the others end behind their scenario

    def _track(self) -> None:
        with Servers(self._products) as servers:
            while turn := self._next():
                scenario, product, seed = turn
                result = play(scenario, servers, self._cluster, product, seed, self._patience)
                with self._lock:
                    self.results.append(result)
                    self._save()
                    click.echo(report.line(result))
                    if not result.passed:
                        again = f"make chaos ARGS='--seed {seed} --database {product} --scenario {scenario.name}'"
                        click.echo(report.failure(result, again))

    def _save(self) -> None:
        """As it stands now: a long run may be cut short."""
        if self._file:
            figures = [result.as_json() for result in self.results]
            self._file.write_text(json.dumps({"seed": self._seed, "results": figures}, indent=1))

    def _next(self) -> tuple[Scenario, str, int] | None:
        with self._lock:
            return next(self._turns, None)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seed", type=int, help="Decides all that is left to chance. Random, and printed, unless given.")
@click.option("--duration", callback=_duration, help="Repeat the scenarios until it is over: 90s, 60m, 2h.")
@click.option("--scenario", "names", multiple=True, metavar="NAME", help="Only this one; may be given again.")
@click.option("--database", type=click.Choice([*DATABASES, "both"]), help="Default: scenarios take turns on them.")
@click.option("--patience", default=1.0, help="Multiplies every limit of time, on a machine that is busy otherwise.")
@click.option("--tracks", default=3, show_default=True, help="How many scenarios at once, each with its servers.")
@click.option("--json", "file", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures to a file.")
@click.option("--list", "listing", is_flag=True, help="Name the scenarios, and do nothing.")
def main(
    seed: int | None,
    duration: float | None,
    names: tuple[str, ...],
    database: str | None,
    tracks: int,
    patience: float,
    file: Path | None,
    listing: bool,
) -> None:
    """Injects faults into real daemons, databases and brokers, and counts against a ledger. Exit code 1: not as
    expected."""
    if listing:
        _list()
        return
    unknown = sorted(set(names) - SCENARIOS.keys())
    if unknown:
        raise click.BadParameter(f"no scenario {', '.join(unknown)}; --list names them", param_hint="--scenario")
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    everything = [scenario for scenario in SCENARIOS.values() if duration or not scenario.long]
    chosen = [SCENARIOS[name] for name in dict.fromkeys(names)] or everything
    products = [database] if database in DATABASES else list(DATABASES)
    began = time.monotonic()
    end = None if duration is None else began + duration
    turns = _turns(chosen, products, seed, end, both=database == "both")
    click.echo(f"seed {seed}")
    run = Run(turns, products, seed=seed, patience=patience, file=file)
    try:
        run.play(min(tracks, len(chosen)))
    except UnavailableError as reason:
        raise click.ClickException(str(reason)) from None
    report.table(run.results, Console(width=None if sys.stdout.isatty() else 170))
    click.echo(f"seed {seed}, {time.monotonic() - began:.0f} s")
    sys.exit(not run.results or any(not result.passed for result in run.results))


if __name__ == "__main__":
    main()
