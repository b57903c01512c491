"""`python -m bench.quick`: counts what delivering an event costs, and fails where that is more than its budget.

It measures no time, so that it says the same on every machine: `bench/budget.py` has the budgets.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from rich.console import Console

from bench.budget import Count, exceeded, missing, table
from bench.counts import QUIET, Laboratory, Scenario, counting
from tests.servers.cache import UnavailableError
from tests.servers.kafka import SHORT_LIVED, Kafka
from tests.servers.mariadb import MariaDB
from tests.servers.mysql import MySQL

DATABASES: Final = {"mariadb": MariaDB, "mysql": MySQL}

FEW, MANY, MORE = 100, 1_000, 11_000
"""Sizes of backlogs. What MORE costs beyond MANY, a batch, is what its events cost."""

ONE_AGGREGATE: Final = 5_000
OLD_ROWS: Final = 100_000
IDLE: Final = 3.0
"""Seconds."""

PACKAGES: Final = 6
"""Of so many packages the calls are told."""


def count_statements(laboratory: Laboratory) -> list[Count]:
    """What the server counts."""
    place = laboratory.server.name
    start = laboratory.drain(Scenario(MANY))
    alone = laboratory.drain(Scenario(MORE)) - start
    grown = laboratory.drain(Scenario(MORE, aggregates=20_000, sent=OLD_ROWS)) - start
    single = laboratory.drain(Scenario(ONE_AGGREGATE, aggregates=1, settings=QUIET)) - start
    overlapping = laboratory.drain(Scenario(MORE, settings=QUIET)) - start
    events = MORE - MANY
    found = {
        "round trips per batch": alone.statements / alone.batches,
        "statements per 1,000 events": alone.statements / events * 1000,
        "statements per 1,000 events, batches overlap": overlapping.statements / events * 1000,
        "statements per 1,000 events, one aggregate": single.statements / (ONE_AGGREGATE - MANY) * 1000,
        "batches per 1,000 events": alone.batches / events * 1000,
        "batches per 1,000 events, batches overlap": overlapping.batches / events * 1000,
        "rows looked at per event": alone.rows / events,
        "rows looked at, growth with the table": grown.rows / alone.rows,
        "statements, growth with the table": grown.statements / alone.statements,
        "bytes of binlog per event": alone.binlog / events,
        "bytes of redo per event": alone.redo / events,
        "statements per second, idle": laboratory.idle_statements(IDLE),
    }
    return [Count(name, place, value) for name, value in found.items()]


def count_calls(laboratory: Laboratory) -> tuple[list[Count], dict[str, float]]:
    """What happens inside of the process; also the calls per event, by package."""
    few, _ = laboratory.drain_counting_calls(Scenario(FEW))
    many, start = laboratory.drain_counting_calls(Scenario(MANY))
    more, end = laboratory.drain_counting_calls(Scenario(MORE))
    bare = laboratory.bare_calls(MORE) - laboratory.bare_calls(MANY)
    events = MORE - MANY
    counts = [
        Count("calls per event", "process", (more.calls - many.calls) / events, bare / events),
        Count("requests to the broker per batch", "process", (more - many).requests / (more - many).batches),
        Count("blocks in memory per event in flight", "process", (many.blocks - few.blocks) / (MANY - FEW)),
        Count("bytes in memory per event in flight", "process", (many.bytes - few.bytes) / (MANY - FEW)),
        Count("blocks left behind per event", "process", (more.blocks - many.blocks) / events),
    ]
    return counts, {package: (number - start.get(package, 0)) / events for package, number in end.items()}


def count(databases: Sequence[str], console: Console) -> list[Count]:
    """Starts the servers, and counts. Raises UnavailableError when a server cannot be had."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="outboxd-bench-")))
        kafka = stack.enter_context(Kafka(java_options=SHORT_LIVED))
        servers = [stack.enter_context(counting(DATABASES[name])) for name in databases]
        python = ".".join(map(str, sys.version_info[:3]))
        versions = [f"{server.name} {server.version}" for server in (*servers, kafka)]
        console.print(", ".join([*versions, f"Python {python}"]), style="dim")
        laboratories = [Laboratory(server, kafka, folder) for server in servers]
        with ThreadPoolExecutor() as pool:
            # Both at once: nothing here depends on who has to wait for whom.
            found = list(pool.map(count_statements, laboratories))
        inside, packages = count_calls(laboratories[0])
    most = sorted(packages.items(), key=lambda entry: -entry[1])[:PACKAGES]
    calls = ", ".join(f"{package} {number:.1f}" for package, number in most)
    console.print(f"calls per event: {calls}", style="dim")
    return [entry for counts in found for entry in counts] + inside


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.quick", description=__doc__)
    parser.add_argument("--databases", nargs="+", choices=DATABASES, default=list(DATABASES))
    return parser.parse_args(arguments)


def main() -> int:
    """Counts, prints the table, and says what is too much."""
    arguments = parse()
    console = Console()
    began = time.monotonic()
    try:
        counts = count(arguments.databases, console)
    except UnavailableError as reason:
        console.print(f"a server is missing: {reason}", style="red")
        return 1
    console.print(table(counts))
    problems = [f"TOO MUCH: {line}" for line in exceeded(counts)]
    problems += [f"NOT COUNTED: {name}" for name in missing(counts)]
    for line in problems:
        console.print(line, style="red", soft_wrap=True)
    console.print(f"{len(counts)} counts in {time.monotonic() - began:.0f} s", style="dim")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
