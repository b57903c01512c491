"""The guard of `make bench-quick` has teeth: it finds waste, each kind by the count that is meant for it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from rich.console import Console

from bench.budget import BUDGETS, Count, exceeded, missing, table
from bench.counted import package
from bench.counts import DOORBELL, ONE_BY_ONE, QUIET, Laboratory, Scenario, Tally
from bench.quick import batch_counts, growth_counts, process_counts, shape_counts
from tests.servers.kafka import Kafka
from tests.servers.mysql import MySQL

WASTEFUL = """
'''The daemon, with waste in it.'''

from outboxd.cli import main
from outboxd.sinks.kafka import sink
from outboxd.store.events import MySqlEventReader, MySqlSettler

settle, read, record, publish = MySqlSettler.sent, MySqlEventReader._read, sink.record, sink.KafkaSink.publish
kept = []

def settle_twice(connection, ids):
    connection.exec_driver_sql(f"UPDATE outbox_events SET attempt_count = attempt_count + 1 WHERE id IN ({ids})")

async def settle_by_fifties(self, events, asked_at):
    with self._session._engine.connect() as other:
        other.exec_driver_sql("SELECT 1")
    for start in range(0, len(events), 50):
        fifty = events[start : start + 50]
        ids = ",".join(str(event.id) for event in fifty)
        await self._session.run(lambda connection: settle_twice(connection, ids))
        await settle(self, fifty, asked_at)

def read_and_count(self, connection, *arguments):
    connection.exec_driver_sql("SELECT COUNT(*) FROM outbox_events WHERE LENGTH(payload) = 0").all()
    return read(self, connection, *arguments)

def record_ten_times(event, max_bytes):
    kept.append([record(event, max_bytes) for _ in range(10)])
    return kept[-1][-1]

async def ask_and_publish(self, events, permitted):
    await self.check()
    return await publish(self, events, permitted)

MySqlSettler.sent, MySqlEventReader._read = settle_by_fifties, read_and_count
sink.record, sink.KafkaSink.publish = record_ten_times, ask_and_publish
main()
"""

IN_SMALL_BATCHES: Final = {"relay.batch_size": "500"}
"""A quarter of the default."""

IN_A_HURRY: Final = {"relay.poll_interval": "10ms", "retry.interval": "20ms"}
"""It looks five times as often, and the workers beside the relay fifty times."""

PROGRAM = """
import sys
def step(number): return max(number, 1)
for number in range(int(sys.argv[1])): step(number)
"""


def test_a_count_within_its_budget_is_fine_and_one_above_is_told_with_the_excess() -> None:
    """At the budget is within it."""
    most = BUDGETS["round trips per batch"].at("MySQL")
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
    used = Tally(*range(1, 11))
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
    most = BUDGETS["calls per event"].at("process")
    console.print(table([Count("calls per event", "process", 7.0, 3.5), Count("round trips per batch", "MySQL", 9.0)]))
    calls, trips = (line for line in console.export_text().splitlines() if "process" in line or "MySQL" in line)
    assert [cell.strip() for cell in calls.split("│")][3:6] == ["7.00", f"{most:.2f}", "3.50"]
    assert trips.split("│")[5].strip() == "2.00"


def test_a_table_that_is_read_through_shows_as_growth() -> None:
    """A hundred thousand old rows at each of ten reads; and a statement more for each of ten batches."""
    small = Tally(statements=40, rows=40_000, batches=10)
    large = small._replace(statements=50, rows=40_000 + 10 * 100_000)
    rows, statements = exceeded(growth_counts("MySQL", small, large))
    assert "rows looked at, growth with the table is 26.00" in rows
    assert "statements, growth with the table is 1.25" in statements


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


def excessive(counts: list[Count]) -> set[str]:
    return {count.name for count in counts if count.excess}


def test_a_wasteful_daemon_is_found(
    mysql: MySQL, kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads small batches, settles by fifties and each twice, counts the table at each read, says a word on another
    connection and asks the broker for its topics at each batch, makes each record ten times and forgets nothing. All
    is delivered all the same, in order, so that no other test would notice. Every count of a drain tells."""
    mysql.start()
    kafka.start()
    (tmp_path / "wasteful.py").write_text(WASTEFUL)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path.cwd()}")
    laboratory = Laboratory(mysql, kafka, tmp_path, "wasteful")
    settings = {**ONE_BY_ONE, **IN_SMALL_BATCHES}
    few, _ = laboratory.drain_counting_calls(Scenario(100, settings=settings))
    many, _ = laboratory.drain_counting_calls(Scenario(500, settings=settings))
    more, _ = laboratory.drain_counting_calls(Scenario(2_500, settings=settings))
    used = more - many
    overlapping = laboratory.drain(Scenario(2_500, settings={**QUIET, **IN_SMALL_BATCHES})) - many
    counts = [
        *batch_counts("MySQL", 2_000, used),
        *process_counts(2_000, used, 400, many - few),
        *shape_counts("MySQL", 2_000, used, 2_000, overlapping),  # a backlog of one aggregate would take as long again
    ]
    assert excessive(counts) == {count.name for count in counts}


def test_a_daemon_that_looks_too_often_is_found(mysql: MySQL, kafka: Kafka, tmp_path: Path) -> None:
    """With and without the doorbell."""
    mysql.start()
    kafka.start()
    laboratory = Laboratory(mysql, kafka, tmp_path)
    for name, settings in (
        ("statements per second, idle", IN_A_HURRY),
        ("statements per second, idle, doorbell", {**DOORBELL, **IN_A_HURRY}),
    ):
        # A machine that stalls for a second hides it.
        assert any(Count(name, "MySQL", laboratory.idle_statements(1.0, settings)).excess for _ in range(3))
