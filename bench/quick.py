"""`python -m bench.quick`: counts what delivering an event costs, and fails where that is more than its budget.

It measures no time, so that it says the same on every machine: `bench/budget.py` has the budgets.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from rich.console import Console

from bench.budget import Count, exceeded, missing, table
from bench.counts import DOORBELL, QUIET, Laboratory, Scenario, Tally, counting
from tests.servers.cache import UnavailableError
from tests.servers.kafka import Kafka
from tests.servers.mariadb import MariaDB
from tests.servers.mysql import MySQL

DATABASES: Final[dict[str, type[MariaDB | MySQL]]] = {"mariadb": MariaDB, "mysql": MySQL}

FEW, MANY, MORE = 100, 2_000, 12_000
"""Sizes of backlogs. What MORE costs beyond MANY, a batch, is what its events cost."""

ONE_AGGREGATE: Final = 6_000
OLD_ROWS: Final = 100_000
IDLE: Final = 3.0
IDLE_DOORBELL: Final = 15.0
GAUGES: Final = 5.0
"""Seconds; the more, the less is asked for. The gauges are read every `GAUGES`."""

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
    return [
        *batch_counts(place, MORE - MANY, alone),
        *growth_counts(place, alone, grown),
        *shape_counts(place, ONE_AGGREGATE - MANY, single, MORE - MANY, overlapping),
        idle_count("statements per second, idle", laboratory, IDLE, {}),
        idle_count("statements per second, idle, doorbell", laboratory, IDLE_DOORBELL, DOORBELL),
    ]


def idle_count(name: str, laboratory: Laboratory, seconds: float, settings: Mapping[str, str]) -> Count:
    """The least of up to three daemons': what a start on a slow machine has left to do comes into the time of one."""
    counts: list[Count] = []
    while len(counts) < 3 and (not counts or counts[-1].excess):
        counts.append(Count(name, laboratory.server.name, laboratory.idle_statements(seconds, settings)))
    return min(counts, key=lambda count: count.value)


def batch_counts(place: str, events: int, used: Tally) -> list[Count]:
    """What `events` need, batch by batch."""
    # Two statements a round: the longer a machine takes for the events, the more.
    gauges = 2 * int(used.seconds / GAUGES)
    return [
        Count("round trips per batch", place, used.statements / used.batches),
        Count("statements beside the batches, per batch", place, max(0, used.others - gauges) / used.batches),
        Count("statements per 1,000 events", place, used.statements / events * 1000),
        Count("batches per 1,000 events", place, used.batches / events * 1000),
        Count("rows looked at per event", place, used.rows / events),
        Count("bytes of binlog per event", place, used.binlog / events),
        Count("bytes of redo per event", place, used.redo / events),
    ]


def growth_counts(place: str, small: Tally, large: Tally) -> list[Count]:
    """The same number of events, in a small table and in a large one."""
    return [
        Count("rows looked at, growth with the table", place, large.rows / small.rows),
        Count("statements, growth with the table", place, large.statements / small.statements),
    ]


def shape_counts(place: str, events_of_one: int, single: Tally, events: int, overlapping: Tally) -> list[Count]:
    """What depends on how batches fall: all events of one aggregate, and batches that overlap."""
    return [
        Count("statements per 1,000 events, one aggregate", place, single.statements / events_of_one * 1000),
        Count("statements per 1,000 events, batches overlap", place, overlapping.statements / events * 1000),
        Count("batches per 1,000 events, batches overlap", place, overlapping.batches / events * 1000),
    ]


def count_calls(laboratory: Laboratory) -> tuple[list[Count], dict[str, float]]:
    """What happens inside of the process; also the calls per event, by package."""
    few, _ = laboratory.drain_counting_calls(Scenario(FEW))
    many, start = laboratory.drain_counting_calls(Scenario(MANY))
    more, end = laboratory.drain_counting_calls(Scenario(MORE))
    bare = (laboratory.bare_calls(MORE) - laboratory.bare_calls(MANY)) / (MORE - MANY)
    packages = {package: (number - start.get(package, 0)) / (MORE - MANY) for package, number in end.items()}
    return process_counts(MORE - MANY, more - many, MANY - FEW, many - few, bare), packages


def process_counts(events: int, used: Tally, in_flight: int, loaded: Tally, bare: float | None = None) -> list[Count]:
    """What `events` use, and what a batch loads that has `in_flight` events more than another."""
    place = "process"
    return [
        Count("calls per event", place, used.calls / events, bare),
        Count("requests to the broker per batch", place, used.requests / used.batches),
        Count("blocks in memory per event in flight", place, loaded.blocks / in_flight),
        Count("bytes in memory per event in flight", place, loaded.bytes / in_flight),
        Count("blocks left behind per event", place, used.blocks / events),
    ]


def count(databases: Sequence[str], console: Console) -> list[Count]:
    """Starts the servers, and counts. Raises UnavailableError when a server cannot be had."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="outboxd-bench-")))
        kafka = stack.enter_context(Kafka())
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
        console.print(f"a server is missing: {reason}", style="red", markup=False)
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
