"""`python -m bench.quick`: throughput of a backlog against the bare loop, and latency, on private real servers."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from rich.console import Console

from bench.drain import Drain, measure_drain, measure_start
from bench.latency import Latency, measure_latency
from bench.program import BareLoop, Outboxd, Program, Usage
from bench.report import Comparison, Figures, save, show
from tests.servers.cache import UnavailableError
from tests.servers.kafka import Kafka
from tests.servers.mariadb import MariaDB
from tests.servers.mysql import MySQL
from tests.servers.sql import SqlServer

DATABASES: Final = {"mariadb": MariaDB, "mysql": MySQL}


class Run:
    """One run of the benchmark."""

    def __init__(self, arguments: argparse.Namespace, kafka: Kafka, folder: Path, console: Console) -> None:
        self._arguments = arguments
        self._kafka = kafka
        self._folder = folder
        self._console = console
        self.bare_loop = BareLoop()
        self.outboxd = Outboxd(arguments.set)
        self.starts: dict[tuple[str, str], Usage] = {}

    def compare(self, server: SqlServer) -> Comparison:
        """Drains a backlog by the bare loop and by outboxd, in turn, as often as asked."""
        self._drain(self.bare_loop, server, "warm-up")
        for program in (self.bare_loop, self.outboxd):
            self.starts[server.name, program.name] = measure_start(
                program, server, self._kafka, self._log(server, program, "start")
            )
        ruler: list[Drain] = []
        own: list[Drain] = []
        for number in range(1, self._arguments.rounds + 1):
            turns: list[tuple[Program, list[Drain]]] = [(self.bare_loop, ruler), (self.outboxd, own)]
            # Who goes first takes turns too, so that a machine that slows down favours nobody.
            for drained_by, drains in turns if number % 2 else reversed(turns):
                drain = self._drain(drained_by, server, f"round-{number}")
                drains.append(drain)
                self._console.print(f"  {server.name}, round {number}: {drain.program} {drain.rate:,.0f} events/s")
        return Comparison(server.name, ruler, own)

    def latency(self, server: SqlServer) -> Latency:
        """One event at a time, while there is no backlog."""
        return measure_latency(
            self.outboxd,
            server,
            self._kafka,
            self._log(server, self.outboxd, "latency"),
            per_second=self._arguments.per_second,
            seconds=self._arguments.seconds,
        )

    def _drain(self, program: Program, server: SqlServer, what: str) -> Drain:
        return measure_drain(
            program,
            server,
            self._kafka,
            self._log(server, program, what),
            events=self._arguments.events,
            aggregates=self._arguments.aggregates,
        )

    def _log(self, server: SqlServer, program: Program, what: str) -> Path:
        return self._folder / f"{server.name}-{program.name}-{what}.log".lower().replace(" ", "-")


def measure(arguments: argparse.Namespace, console: Console) -> Figures:
    """Starts the servers, and measures. Raises UnavailableError when a server cannot be had."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="outboxd-bench-")))
        kafka = stack.enter_context(Kafka())
        run = Run(arguments, kafka, folder, console)
        servers = {kafka.name: kafka.version}
        comparisons: list[Comparison] = []
        latencies: list[Latency] = []
        for name in arguments.databases:
            # One database at a time: an idle one still takes memory and some CPU.
            with DATABASES[name]() as server:
                console.print(f"{server.name} {server.version}, Kafka {kafka.version}")
                servers[server.name] = server.version
                comparisons.append(run.compare(server))
                if arguments.seconds > 0:
                    latencies.append(run.latency(server))
        return Figures(servers, comparisons, run.starts, latencies)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.quick", description=__doc__)
    parser.add_argument("--databases", nargs="+", choices=DATABASES, default=list(DATABASES))
    parser.add_argument("--events", type=int, default=50_000, help="the backlog [default: %(default)s]")
    parser.add_argument("--aggregates", type=int, default=1000, help="[default: %(default)s]")
    parser.add_argument("--rounds", type=int, default=3, help="how often each drains it [default: %(default)s]")
    parser.add_argument("--per-second", type=int, default=50, help="rate for the latency [default: %(default)s]")
    parser.add_argument("--seconds", type=float, default=15, help="of the latency; 0: none [default: %(default)s]")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of outboxd")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    return parser.parse_args(arguments)


def main() -> int:
    """Measures, prints the tables, and writes the JSON."""
    arguments = parse()
    console = Console()
    try:
        figures = measure(arguments, console)
    except UnavailableError as reason:
        console.print(f"a server is missing: {reason}", style="red")
        return 1
    show(figures, console)
    console.print(f"written to {save(figures, arguments.set)}")
    shortfalls = figures.shortfalls()
    for line in shortfalls:
        console.print(f"NOT REACHED: {line}", style="red")
    return 1 if arguments.check and shortfalls else 0


if __name__ == "__main__":
    sys.exit(main())
