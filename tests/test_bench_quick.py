"""The guard of `make bench-quick` has teeth: it finds waste, each kind by the count that is meant for it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from bench.budget import BUDGETS, Count, exceeded, missing, table
from bench.counted import package
from bench.counts import Laboratory, Scenario, Tally
from bench.quick import batch_counts, growth_counts, process_counts, shape_counts
from tests.servers.kafka import Kafka
from tests.servers.mysql import MySQL

WASTEFUL = """
'''The daemon, with waste in it.'''

from outboxd.cli import main
from outboxd.sinks.kafka import sink
from outboxd.store.events import MySqlEventReader, MySqlSettler

settle, read, record = MySqlSettler.sent, MySqlEventReader._read, sink.record
kept = []

async def settle_by_tens(self, events, asked_at):
    for start in range(0, len(events), 10):
        await settle(self, events[start : start + 10], asked_at)

def read_and_count(self, connection, *arguments):
    connection.exec_driver_sql("SELECT COUNT(*) FROM outbox_events WHERE LENGTH(payload) = 0").all()
    return read(self, connection, *arguments)

def record_ten_times(event, max_bytes):
    kept.append(f"event {event.id}")
    return [record(event, max_bytes) for _ in range(10)][-1]

MySqlSettler.sent, MySqlEventReader._read, sink.record = settle_by_tens, read_and_count, record_ten_times
main()
"""

PROGRAM = """
import sys
def step(number): return max(number, 1)
for number in range(int(sys.argv[1])): step(number)
"""


def test_a_count_within_its_budget_is_fine_and_one_above_is_told_with_the_excess() -> None:
    """At the budget is within it."""
    most = BUDGETS["round trips per batch"].most
    assert exceeded([Count("round trips per batch", "MySQL", most)]) == []
    (line,) = exceeded([Count("round trips per batch", "MySQL", most * 1.5)])
    assert line == f"MySQL: round trips per batch is {most * 1.5:.2f}, its budget is {most:.2f} (50% too much)"


def test_a_budget_that_nothing_was_counted_for_is_told() -> None:
    """Else a count could fall away unseen."""
    counts = [Count(name, "MySQL", 0.0) for name in BUDGETS]
    assert missing(counts) == []
    assert missing(counts[1:]) == [counts[0].name]


def test_every_budget_has_its_count() -> None:
    """And every count its budget, whichever part of the run makes it."""
    used = Tally(*range(1, 10))
    counts = [
        *batch_counts("MySQL", 1, used),
        *growth_counts("MySQL", used, used),
        *shape_counts("MySQL", 1, used, 1, used),
        *process_counts(1, used, 1, used, 1.0),
        Count("statements per second, idle", "MySQL", 1.0),
        Count("statements per second, idle, doorbell", "MySQL", 1.0),
    ]
    assert missing(counts) == []
    assert {count.name for count in counts} == set(BUDGETS)


def test_the_table_shows_each_count_beside_its_budget_and_the_bare_minimum() -> None:
    """A minimum that was measured goes before the one that is written down."""
    console = Console(record=True, width=120)
    most = BUDGETS["calls per event"].most
    console.print(table([Count("calls per event", "process", 7.0, 3.5), Count("round trips per batch", "MySQL", 9.0)]))
    calls, trips = (line for line in console.export_text().splitlines() if "process" in line or "MySQL" in line)
    assert [cell.strip() for cell in calls.split("│")][3:6] == ["7.00", f"{most:.2f}", "3.50"]
    assert trips.split("│")[5].strip() == "2.00"


def test_a_table_that_is_read_through_shows_as_growth() -> None:
    """A hundred thousand old rows at each of ten reads."""
    small = Tally(statements=40, rows=40_000, batches=10)
    (found,) = exceeded(growth_counts("MySQL", small, small._replace(rows=40_000 + 10 * 100_000)))
    assert "rows looked at, growth with the table is 26.00" in found


def calls_of(program: str, argument: str, folder: Path) -> int:
    """Of a module that is run as it is counted."""
    result = folder / "result.json"
    command = [sys.executable, "-m", "bench.counted", str(result), program, argument]
    subprocess.run(command, check=True)
    return sum(json.loads(result.read_text())["calls"].values())


def test_calls_are_counted_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step is two calls, of a function in Python and of one in C; and it is the same number each time."""
    (tmp_path / "stepping.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path.cwd()}")
    few = calls_of("stepping", "100", tmp_path)
    assert calls_of("stepping", "1100", tmp_path) - few == 2000
    assert calls_of("stepping", "100", tmp_path) == few


def test_calls_are_told_by_package() -> None:
    """As the path of the code says."""
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    assert package(f"/x/lib/{python}/site-packages/pymysql/cursors.py") == "pymysql"
    assert package(f"/x/lib/{python}/asyncio/events.py") == "asyncio"
    assert package(f"/x/lib/{python}/queue.py") == "queue"
    assert package("/x/outboxd/model.py") == "outboxd"
    assert package("<string>") == "other"


def test_a_wasteful_daemon_is_found(
    mysql: MySQL, kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It settles by tens, counts the table at each read, makes each record ten times and forgets nothing; all is
    delivered all the same, in order, so that no other test would notice."""
    mysql.start()
    kafka.start()
    (tmp_path / "wasteful.py").write_text(WASTEFUL)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path.cwd()}")
    laboratory = Laboratory(mysql, kafka, tmp_path, "wasteful")
    many, _ = laboratory.drain_counting_calls(Scenario(1_000))
    more, _ = laboratory.drain_counting_calls(Scenario(3_000))
    used = more - many
    counts = [*batch_counts("MySQL", 2_000, used), *process_counts(2_000, used, 1_000, Tally())]
    assert {count.name for count in counts if count.excess} >= {
        "round trips per batch",
        "statements per 1,000 events",
        "rows looked at per event",
        "calls per event",
        "blocks left behind per event",
    }
