"""`python -m bench`: measures the daemon as a process of its own, on private real servers, beside its limit and peers.

Each measurement works on one database at a time. The result is written after each of them, so that an interrupted run
keeps what it has.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from rich.console import Console

from bench.debezium_worker import CONNECTORS
from bench.registry import MEASUREMENTS
from bench.result import Result, default_path, machine, now
from bench.scene import Scene
from bench.servers import DATABASES
from bench.tables import sheet, show
from tests.servers.cache import UnavailableError
from tests.servers.kafka import LONG_LIVED, Kafka


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--databases", nargs="+", choices=DATABASES, default=list(DATABASES))
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS), metavar="NAME")
    parser.add_argument("--list", action="store_true", help="name the measurements, and end")
    parser.add_argument("--scale", type=float, default=1.0, help="a factor on events and seconds [default: 1]")
    parser.add_argument("--rounds", type=int, default=3, help="how often each drains [default: %(default)s]")
    parser.add_argument("--sent-rows", type=int, default=10_000_000, help="in the large table [default: %(default)s]")
    parser.add_argument(
        "--sustained", type=int, metavar="RATE", help="take this for the sustained maximum, and search no other"
    )
    parser.add_argument("--no-peers", action="store_true", help="leave Debezium out")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of outboxd")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the JSON [default: in bench/results]")
    return parser.parse_args(arguments)


def measure(arguments: argparse.Namespace, console: Console) -> tuple[Result, Path]:
    """Starts the servers, and makes all measurements. Raises UnavailableError when a server cannot be had."""
    result = Result(now(), machine(), arguments.set, arguments.scale, arguments.rounds, arguments.sent_rows)
    path = arguments.output or default_path(result.at)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="outboxd-bench-")))
        kafka = stack.enter_context(Kafka(java_options=LONG_LIVED))
        result.machine[kafka.name] = kafka.version
        for name in arguments.databases:
            # One database at a time: an idle one still takes memory and some CPU.
            with DATABASES[name]() as server:
                console.print(f"{server.name} {server.version}, Kafka {kafka.version}")
                result.machine[server.name] = server.version
                if not arguments.no_peers:
                    result.machine[f"Debezium for {server.name}"] = CONNECTORS[server.product]
                scene = Scene(
                    server,
                    kafka,
                    folder,
                    arguments.set,
                    arguments.scale,
                    arguments.rounds,
                    arguments.sent_rows,
                    not arguments.no_peers,
                    partial(_tell, console, server.name),
                    sustained=arguments.sustained,
                )
                make(arguments.only, scene, result, path, console)
    return result, path


def _tell(console: Console, database: str, line: str) -> None:
    console.print(f"  {database}: {line}", highlight=False, markup=False)


def make(names: Sequence[str], scene: Scene, result: Result, path: Path, console: Console) -> None:
    """Makes measurements on one database. One that fails is noted, and the next is made."""
    for name in names:
        measurement = MEASUREMENTS[name]
        began = time.monotonic()
        console.rule(f"{scene.server.name}: {measurement.title}", align="left")
        try:
            result.add(measurement, scene.server.name, measurement.measure(scene))
        except Exception as error:  # whatever it is, the others still have to be measured
            console.print_exception()
            result.fail(measurement, scene.server.name, f"{type(error).__name__}: {error}")
        result.save(path)
        console.print(sheet(result, measurement).rich())
        console.print(f"  {time.monotonic() - began:.0f} s")


def plan(arguments: argparse.Namespace, console: Console) -> None:
    """Says what will be measured, and how long that takes, about."""
    total = 0.0
    for name in arguments.only:
        seconds = MEASUREMENTS[name].seconds(arguments.scale, arguments.rounds) * len(arguments.databases)
        total += seconds
        console.print(f"  {name:12} {seconds / 60:4.1f} min  {MEASUREMENTS[name].title}", highlight=False)
    console.print(
        f"about {total / 60:.0f} minutes on {' and '.join(arguments.databases)}, at scale {arguments.scale:g} with "
        f"{arguments.rounds} rounds; a busy machine takes longer"
    )


def main() -> int:
    """Measures, and prints the tables. Exits 1 when a measurement has failed."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # what was started is ended
    arguments = parse()
    console = Console() if sys.stdout.isatty() else Console(width=150)
    plan(arguments, console)
    if arguments.list:
        return 0
    try:
        result, path = measure(arguments, console)
    except UnavailableError as reason:
        console.print(f"a server is missing: {reason}", style="red", markup=False)
        return 1
    show(result, console)
    console.print(f"written to {path}")
    return 1 if result.failures else 0


if __name__ == "__main__":
    sys.exit(main())
