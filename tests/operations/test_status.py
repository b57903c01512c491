"""`outboxd status` as it is typed, and how the servers execute what it asks."""

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from outboxd.cli import main
from outboxd.model import Status, TableNames
from outboxd.store.direct import connected
from outboxd.store.engine import ConnectOptions
from outboxd.store.inspection import Inspector
from outboxd.store.migrator import Migrator
from outboxd.store.statements import LANE_INDEX
from tests.conftest import Database
from tests.end_to_end.daemon import Daemon, until
from tests.migrate.support import Sql
from tests.operations.conftest import Run
from tests.operations.rows import insert, insert_dead, insert_event
from tests.servers.kafka import Kafka
from tests.servers.sql import SqlServer
from tests.store.test_explain import explained

HELD_UNTIL = "2038-01-17 13:37:11"
REPORT = {
    "in_flight": 1234,
    "in_flight_bytes": 99,
    "circuits": [{"topic": None, "cause": "no_connection", "reason": "no broker\tanswers", "seconds": 12.3}],
}


def insert_instance(sql: Sql, name: str, lease: int, report: str | None, lanes: int) -> None:
    """An instance that owns the first of the free lanes."""
    times = {"started_at": "2026-01-31 12:00:00", "expires_at": sql.one("SELECT NOW(6) + INTERVAL %s SECOND", lease)}
    known = {"id": f"{name}/1", "name": name, "host": "host-1", "pid": 17, "version": "0.1.0", "report": report}
    insert(sql, "outbox_instances", known | times)
    sql(f"UPDATE outbox_lanes SET owner = %s WHERE owner IS NULL ORDER BY lane LIMIT {lanes}", f"{name}/1")


def document(run: Run) -> dict[str, Any]:
    """What `outboxd status --json` says of the one source."""
    result = run("status", "--json")
    assert result.exit_code == 0, result.output
    sources = json.loads(result.stdout)["sources"]
    assert list(sources) == ["default"]
    found: dict[str, Any] = sources["default"]
    return found


def test_nothing_to_tell(run: Run) -> None:
    """All keys are there, whatever there is."""
    found = document(run)
    assert found.pop("at").endswith("Z")
    empty = {"count": 0, "more": False}
    assert found == {
        "events": {state: empty | {"oldest_seconds": None} for state in ("new", "retry", "error", "processing")},
        "instances": [],
        "free_lanes": 64,
        "circuits": [],
        "held": empty | {"aggregates": []},
        "dead_letters": empty | {"reasons": []},
    }


def test_the_backlog_by_state(run: Run, sql: Sql) -> None:
    """With the age of the oldest, also where a younger one is due first; and states that do not exist."""
    for key, status, age in ((1, 0, 50), (2, 0, 500), (3, 1, 9000), (4, 3, 20), (5, 4, 30), (6, 7, 10)):
        insert_event(sql, key, status=status, created_at=ago(sql, age), aggregate_id=f"order-{key}")
    insert_event(sql, 7, status=2, created_at=ago(sql, 400), next_attempt_at="2031-01-01", aggregate_id="a")
    insert_event(sql, 8, status=2, created_at=ago(sql, 40), next_attempt_at="2030-01-01", aggregate_id="a")
    events = document(run)["events"]
    ages = {state: backlog["oldest_seconds"] for state, backlog in events.items()}
    assert {state: backlog["count"] for state, backlog in events.items()} == {
        "new": 2, "retry": 2, "error": 1, "processing": 1, "unknown": 1
    }  # fmt: skip
    assert ages == {
        "new": pytest.approx(500, abs=30),
        "retry": pytest.approx(400, abs=30),
        "error": pytest.approx(20, abs=30),
        "processing": pytest.approx(30, abs=30),
        "unknown": None,
    }


def ago(sql: Sql, seconds: int) -> Any:
    """A time of the database."""
    return sql.one("SELECT NOW(6) - INTERVAL %s SECOND", seconds)


def test_instances_lanes_and_circuits(run: Run, sql: Sql) -> None:
    """As they report themselves; one whose report cannot be read, and one that is dead, are shown all the same."""
    insert_instance(sql, "a", 60, json.dumps(REPORT), 40)
    insert_instance(sql, "b", 60, None, 20)
    insert_instance(sql, "c", -60, '["?"]', 3)
    found = document(run)
    seen = [(one["id"], one["lanes"], one["alive"], one["report"]) for one in found["instances"]]
    assert seen == [
        ("a/1", 40, True, {"in_flight": 1234, "in_flight_bytes": 99}),
        ("b/1", 20, True, {}),
        ("c/1", 3, False, {}),
    ]
    first = found["instances"][0]
    assert 0 < first.pop("lease_seconds") <= 60
    assert {key: first[key] for key in ("name", "host", "pid", "version", "started_at")} == {
        "name": "a", "host": "host-1", "pid": 17, "version": "0.1.0", "started_at": "2026-01-31T12:00:00.000000Z"
    }  # fmt: skip
    assert found["free_lanes"] == 1
    assert found["circuits"] == [{"instance": "a/1", **REPORT["circuits"][0]}]  # type: ignore[index,dict-item]


def test_held_aggregates(run: Run, sql: Sql) -> None:
    """Behind a retry, a row in processing, a dead letter that holds; byte for byte the same aggregate."""
    due = "2030-01-01 00:00:00"
    for key, aggregate, status in (
        (10, "retry", 2), (11, "retry", 2), (12, "retry", 2), (13, "Retry", 2), (14, "retry ", 2),
        (20, "processing", 4), (21, "processing", 2),
        (30, "dead", 2), (31, "dead", 2), (32, "dead", 2),
        (40, "alone", 2), (41, "alone", 1), (42, "alone", 0),
        (50, "went on", 2),
        (60, "older", 2), (62, "older", 2),
    ):  # fmt: skip
        insert_event(sql, key, aggregate_id=aggregate, status=status, next_attempt_at=due, created_at="2026-01-31")
    sql("UPDATE outbox_events SET last_error = 'unknown_topic: create it' WHERE id = 10")
    insert_dead(sql, 29, aggregate_id="dead", holds=1)
    insert_dead(sql, 49, aggregate_id="went on")
    insert_dead(sql, 61, aggregate_id="older", holds=1)
    insert_dead(sql, 71, aggregate_id="nothing waits", holds=1)
    held = document(run)["held"]
    assert (held["count"], held["more"]) == (4, False)
    assert [(one["aggregate_id"], one["waiting"], one["behind"], one["kind"]) for one in held["aggregates"]] == [
        ("dead", 3, 29, "dead_letter"),
        ("retry", 2, 10, "retry"),
        ("processing", 1, 20, "processing"),
        ("older", 1, 60, "retry"),
    ]
    dead, retry = held["aggregates"][:2]
    assert (dead["since"], dead["due_at"]) == ("2026-01-31T11:00:00.000000Z", None)
    assert (retry["since"], retry["due_at"]) == ("2026-01-31T00:00:00.000000Z", "2030-01-01T00:00:00.000000Z")
    assert retry["last_error"] == "unknown_topic: create it"


def test_dead_letters_by_reason(run: Run, sql: Sql) -> None:
    """How many, how many of them hold, and when the last one came; those of the Go library have no reason."""
    insert_dead(sql, 1, holds=1)
    insert_dead(sql, 2, moved_at="2026-02-01 00:00:00")
    insert_dead(sql, 3, reason=None, moved_at=None)
    assert document(run)["dead_letters"] == {
        "count": 3,
        "more": False,
        "reasons": [
            {"reason": "message_too_large", "count": 2, "holding": 1, "newest_at": "2026-02-01T00:00:00.000000Z"},
            {"reason": None, "count": 1, "holding": 0, "newest_at": None},
        ],
    }


def test_lines_for_grep(run: Run, sql: Sql) -> None:
    """Each begins with what it is about; fields between tabs."""
    insert_instance(sql, "a", 60, json.dumps(REPORT), 63)
    insert_event(sql, 10, status=2, aggregate_id="o\t1", created_at="2026-01-31", next_attempt_at="2030-01-01")
    insert_event(sql, 11, status=2, aggregate_id="o\t1", created_at="2026-01-31", next_attempt_at="2030-01-01")
    insert_dead(sql, 2)
    lines = [line.split("\t") for line in run("status").stdout.splitlines()]
    assert lines[0][:2] == ["source", "default"]
    assert ["events", "new", "0", "-"] in lines
    assert [line[:3] for line in lines if line[0] == "events"][1] == ["events", "retry", "2"]
    [instance] = [line for line in lines if line[0] == "instance"]
    assert instance[1:7] == ["a/1", "a", "host-1", "17", "0.1.0", "2026-01-31T12:00:00Z"]
    assert instance[8:] == ["63", "1234"]
    assert ["free_lanes", "1"] in lines
    paused = ["paused", "a/1", "all topics", "no_connection", "12s", "no broker\\tanswers"]
    assert paused in lines
    assert ["held_total", "1"] in lines
    held = ["held", "o\\t1", "1", "10", "retry", "2026-01-31T00:00:00Z", "2030-01-01T00:00:00Z", "-"]
    assert held in lines
    assert ["dead_letters", "message_too_large", "1", "0", "2026-01-31T12:00:00Z"] in lines
    assert ["dead_letters_total", "1"] in lines


def test_one_source_of_two_cannot_be_read(outbox: Database, tmp_path: Path) -> None:
    """The other is shown; the exit code tells."""
    config = tmp_path / "outboxd.toml"
    config.write_text(
        f'[database]\nurl = "{outbox.url}"\n[sources.orders]\n[sources.billing.tables]\nevents = "billing_events"\n'
    )
    result = CliRunner().invoke(main, ["status", "-c", str(config)])
    assert result.exit_code == 1
    assert result.stdout.startswith("source\torders\t")
    said = "billing_events has not been migrated: run `outboxd migrate`"
    assert result.stderr == f"outboxd: [billing] {said}\n"
    sources = json.loads(CliRunner().invoke(main, ["status", "--json", "-c", str(config)]).stdout)["sources"]
    assert sources["billing"] == {"error": said}
    assert sources["orders"]["free_lanes"] == 64
    assert CliRunner().invoke(main, ["status", "--source", "orders", "-c", str(config)]).exit_code == 0


def test_a_running_daemon_is_seen(run: Run, outbox: Database) -> None:
    """Its name, its lanes, its process."""
    with Daemon(outbox.url, "127.0.0.1:1", SINK__KIND="stdout", INSTANCE__NAME="pod-0", LEASE__TTL="60s") as running:
        running.wait_for("lease.lanes", owned=64)
        [instance] = document(run)["instances"]
        assert (instance["name"], instance["lanes"], instance["alive"]) == ("pod-0", 64, True)
        assert instance["pid"] == running.process.pid
        assert running.stop() == 0
    until(lambda: document(run)["free_lanes"] == 64, "its lanes are free")


def test_the_pauses_of_a_running_daemon_are_seen(run: Run, outbox: Database, kafka: Kafka, sql: Sql) -> None:
    """Of one topic, and of the whole sink, as the daemon says with its heartbeat; and that they are over."""

    def circuits() -> list[tuple[str | None, str]]:
        return [(circuit["topic"], circuit["cause"]) for circuit in document(run)["circuits"]]

    missing = f"{outbox.name}-missing"
    with Daemon(outbox.url, kafka.bootstrap, LEASE__TTL="2s"):
        insert_event(sql, 1, topic=missing)
        until(lambda: circuits() == [(missing, "unknown_topic")], "the topic's pause is shown")
        kafka.create_topic(missing, 1)
        until(lambda: circuits() == [], "and its end")
    with Daemon(outbox.url, "127.0.0.1:1", LEASE__TTL="2s"):
        insert_event(sql, 2, topic=missing)
        until(lambda: circuits() == [(None, "no_connection")], "the sink's pause is shown")


# --- a large backlog --------------------------------------------------------------------------------------------

FILL = """
INSERT INTO outbox_events (event_id, event_type, aggregate_type, aggregate_id, topic, payload, status, next_attempt_at)
SELECT UUID(), 'created', 'order', CONCAT('order-', seq MOD {aggregates}), 'orders', '{{"n": 1}}', %s, %s
  FROM numbers LIMIT {rows}
"""


@pytest.fixture(scope="module")
def full(database_server: SqlServer) -> Iterator[Database]:
    """20,000 sent, 100,000 new and 110,000 in retry; 20,000 dead letters, of which 1,000 hold."""
    database_server.start()
    database_server.create_database("status")
    full = Database(database_server, "status")
    Migrator(full.url, TableNames()).upgrade()
    with closing(full.connect()) as connection:
        sql = Sql(connection)
        sql("CREATE TABLE numbers (seq INT PRIMARY KEY)")
        sql(f"INSERT INTO numbers VALUES {', '.join(f'({number})' for number in range(1000))}")
        sql("INSERT INTO numbers SELECT a.seq + 1000 * (b.seq + 1) FROM numbers a, numbers b WHERE b.seq < 109")
        sql(FILL.format(aggregates=1000, rows=20_000), Status.SENT, None)
        sql(FILL.format(aggregates=1000, rows=100_000), Status.NEW, None)
        sql(FILL.format(aggregates=30_000, rows=110_000), Status.RETRY, HELD_UNTIL)
        columns = "id, event_id, event_type, aggregate_type, aggregate_id, topic, payload, attempt_count"
        sql(f"INSERT INTO outbox_deadletters ({columns}) SELECT {columns} FROM outbox_events ORDER BY id LIMIT 20000")
        sql("UPDATE outbox_deadletters SET holds = 1, reason = 'stuck' WHERE id MOD 20 = 0")
        sql("ANALYZE TABLE outbox_events, outbox_deadletters")
    yield full
    database_server.drop_database("status")


def test_a_large_backlog_is_looked_at_quickly(full: Database) -> None:
    """Counts end at 100,000 rows, and say so."""
    began = time.monotonic()
    result = CliRunner().invoke(main, ["status", "--json"], env={"OUTBOXD_DATABASE_URL": full.url})
    seconds = time.monotonic() - began
    print(f"{full.server.name}: status of 210,000 waiting events in {seconds:.2f} s")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)["sources"]["default"]
    assert (found["events"]["new"]["count"], found["events"]["new"]["more"]) == (100_000, False)
    assert (found["events"]["retry"]["count"], found["events"]["retry"]["more"]) == (100_000, True)
    assert found["held"]["more"]
    assert 20_000 < found["held"]["count"] <= 30_000
    assert len(found["held"]["aggregates"]) == 20
    assert found["dead_letters"]["count"] == 20_000
    assert seconds < 60
    lines = CliRunner().invoke(main, ["status"], env={"OUTBOXD_DATABASE_URL": full.url}).stdout.splitlines()
    assert any(line.startswith("events\tretry\t100000+\t") for line in lines)


@pytest.mark.parametrize(
    "name", ["count", "unknown", "oldest", "oldest_retry", "blocking", "held", "behind", "behind_dead", "dead"]
)
def test_no_scan_of_a_whole_table(full: Database, name: str) -> None:
    """By EXPLAIN: the lane index for events, the primary key's end for dead letters."""
    with connected(full.url, TableNames(), ConnectOptions()) as connection:
        inspector = Inspector(connection, TableNames())
    statement = {
        "count": inspector.count(Status.NEW),
        "unknown": inspector.unknown(),
        "oldest": inspector.oldest(Status.NEW),
        "oldest_retry": inspector.oldest_retry(),
        "blocking": inspector.blocking(),
        "held": inspector.held(3, 100_000),
        "behind": inspector.behind(range(1, 21)),
        "behind_dead": inspector.behind_dead(range(1, 21)),
        "dead": inspector.dead_by_reason(),
    }[name]
    steps = [step for step in explained(full, statement, ()) if not derived(step)]
    assert steps
    for step in steps:
        if name == "dead":
            assert (step["type"], step["key"]) == ("index", "PRIMARY"), step
        else:
            assert step["type"] in {"range", "ref", "eq_ref", "const"}, step
            assert step["key"] in {LANE_INDEX, "idx_holds_lane", "PRIMARY"}, step


def derived(step: dict[str, Any]) -> bool:
    """A temporary table of the statement's own."""
    return step["table"] is None or step["table"].startswith("<")
