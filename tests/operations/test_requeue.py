"""Requeueing thousands: in order, through kills, beside other operators, beside writers and the daemon."""

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import closing

import pymysql
import pytest

from tests.conftest import Database
from tests.end_to_end.application import Committed, Ledger, fill, insert
from tests.end_to_end.checker import check, consume
from tests.end_to_end.daemon import Daemon, until
from tests.migrate.support import Sql
from tests.operations.conftest import Run
from tests.operations.rows import fill_dead, ids, insert_dead
from tests.servers.kafka import Kafka

StartDaemon = Callable[..., Daemon]
NewTopic = Callable[..., str]


class Command:
    """`outboxd deadletters ...` as a process of its own."""

    def __init__(self, outbox: Database, *arguments: str) -> None:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("OUTBOXD_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "outboxd", "deadletters", *arguments],
            env=clean | {"OUTBOXD_DATABASE_URL": outbox.url},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.communicate()

    def wait(self) -> tuple[int, str, str]:
        """Its exit code and what it said."""
        stdout, stderr = self.process.communicate(timeout=60)
        return self.process.returncode, stdout, stderr


def log_inserts(sql: Sql) -> None:
    """From now on `inserted` has the ids of new events in the order in which they were inserted."""
    sql("CREATE TABLE inserted (seq BIGINT AUTO_INCREMENT PRIMARY KEY, id BIGINT NOT NULL)")
    sql("CREATE TRIGGER log AFTER INSERT ON outbox_events FOR EACH ROW INSERT INTO inserted (id) VALUES (NEW.id)")


def test_ids_of_zero_and_below_are_kept(run: Run, sql: Sql) -> None:
    """They are places in the order like any other."""
    for key in (-5, 0, 3):
        insert_dead(sql, key)
    assert run("deadletters", "requeue", "0", "3").exit_code == 0
    assert run("deadletters", "requeue", "--", "-5").exit_code == 0
    assert sql("SELECT id FROM outbox_events ORDER BY id") == [(-5,), (0,), (3,)]


def test_ten_thousand_in_the_order_of_their_ids(run: Run, sql: Sql) -> None:
    """A thousand to a transaction."""
    fill_dead(sql, 10_000)
    log_inserts(sql)
    result = run("deadletters", "requeue", "--all")
    assert (result.exit_code, result.stdout) == (0, "requeued 10000 dead letters\n")
    assert [row[0] for row in sql("SELECT id FROM inserted ORDER BY seq")] == list(range(1, 10_001))
    assert sql("SELECT COUNT(*), MAX(status), MAX(attempt_count) FROM outbox_events") == [(10_000, 0, 0)]
    assert sql.one("SELECT COUNT(*) FROM outbox_events WHERE payload <> JSON_OBJECT('n', id)") == 0
    assert ids(sql) == []


def test_large_ones_go_in_small_transactions(run: Run, sql: Sql, outbox: Database) -> None:
    """By 8 MiB: the first are there while a later transaction waits."""
    fill_dead(sql, 12)
    sql("UPDATE outbox_deadletters SET payload = JSON_QUOTE(REPEAT('x', 2000000))")
    taken = sql.one("SELECT event_id FROM outbox_deadletters WHERE id = 7")
    with closing(outbox.connect()) as other, other.cursor() as cursor:
        other.begin()
        cursor.execute(f"{INSERT} (%s, 'e', 'a', 'a', 't', '{{}}')", (taken,))
        command = Command(outbox, "requeue", "--all")
        until(lambda: ids(sql, "outbox_events") == [1, 2, 3, 4], "the first transaction is committed")
        other.rollback()
    assert command.wait()[0] == 0
    assert len(ids(sql, "outbox_events")) == 12


def test_an_event_id_that_is_taken_meanwhile_is_a_conflict(sql: Sql, outbox: Database) -> None:
    """It was free when the command looked; the transaction is tried again without it. No writer waits meanwhile."""
    fill_dead(sql, 10)
    taken = sql.one("SELECT event_id FROM outbox_deadletters WHERE id = 5")
    with closing(outbox.connect()) as other, other.cursor() as cursor:
        other.begin()
        cursor.execute(f"{INSERT} (%s, 'e', 'a', 'a', 't', '{{}}')", (taken,))
        standing = cursor.lastrowid
        command = Command(outbox, "requeue", "--all")
        statement = "INSERT INTO `outbox_events`%"
        until(lambda: outbox.server.waits_for_lock(statement), "the command waits at row 5")
        sql("SET SESSION innodb_lock_wait_timeout = 2")
        # Not in front of it in the index: who waits for a duplicate keeps the gap there.
        sql(f"{INSERT} (%s, 'made', 'order', 'writer', 'orders', '{{}}')", taken[:-1] + "z")
        other.commit()
    code, stdout, stderr = command.wait()
    assert (code, stdout) == (1, "requeued 9 dead letters\n")
    assert stderr == f"outboxd: 5 is left: event {standing} has its event_id already, with status new\n"
    assert ids(sql) == [5]


INSERT = "INSERT INTO outbox_events (event_id, event_type, aggregate_type, aggregate_id, topic, payload) VALUES"


@pytest.mark.parametrize("statement", ["INSERT", "DELETE"])
def test_a_kill_within_the_transaction_loses_nothing(run: Run, sql: Sql, outbox: Database, statement: str) -> None:
    """kill -9 while the INSERT, or the DELETE behind it, is at its row 1,500: the first thousand is done, no more."""
    fill_dead(sql, 3000)
    table = "outbox_events" if statement == "INSERT" else "outbox_deadletters"
    row = "NEW" if statement == "INSERT" else "OLD"
    sql(
        f"CREATE TRIGGER stop BEFORE {statement} ON {table} FOR EACH ROW "
        f"SET @stopped = IF({row}.id = 1500, GET_LOCK('stop', 30), NULL)"
    )
    with closing(outbox.connect()) as other, other.cursor() as cursor:
        cursor.execute("SELECT GET_LOCK('stop', 0)")
        command = Command(outbox, "requeue", "--all")
        # Not for the statement: within a trigger the servers show the trigger's own.
        until(lambda: sql.one(USER_LOCK_WAITS, outbox.name), "the command stands at the row")
        command.kill()
        assert ids(sql, "outbox_events") == list(range(1, 1001))
        assert ids(sql) == list(range(1001, 3001))
    sql("DROP TRIGGER stop")  # waits for the transaction, which the server rolls back
    assert ids(sql, "outbox_events") == list(range(1, 1001))
    assert ids(sql) == list(range(1001, 3001))
    assert run("deadletters", "requeue", "--all").stdout == "requeued 2000 dead letters\n"
    assert ids(sql, "outbox_events") == list(range(1, 3001))


USER_LOCK_WAITS = "SELECT COUNT(*) FROM information_schema.processlist WHERE db = %s AND state = 'User lock'"


def test_kills_at_any_moment_lose_nothing(run: Run, sql: Sql, outbox: Database) -> None:
    """Again and again, until everything is requeued; each row is always in exactly one table."""
    fill_dead(sql, 5000)
    for goal in (1000, 2000, 4000):
        command = Command(outbox, "requeue", "--all")
        until(lambda goal=goal: len(ids(sql, "outbox_events")) >= goal, f"{goal} are requeued")
        command.kill()
        until(lambda: sql.one(OTHERS, outbox.name) == 0, "the server has ended its connection, and its transaction")
        events, dead = ids(sql, "outbox_events"), ids(sql)
        assert events + dead == list(range(1, 5001))
    assert run("deadletters", "requeue", "--all").exit_code == 0
    assert ids(sql, "outbox_events") == list(range(1, 5001))


OTHERS = "SELECT COUNT(*) FROM information_schema.processlist WHERE db = %s AND id <> CONNECTION_ID()"


def test_two_operators_of_the_same_rows(sql: Sql, outbox: Database) -> None:
    """Nothing is lost, nothing done twice, and together they say what was done."""
    fill_dead(sql, 5000)
    log_inserts(sql)
    commands = [Command(outbox, "requeue", "--all") for _ in range(2)]
    results = [command.wait() for command in commands]
    assert [code for code, _, _ in results] == [0, 0], results
    assert sum(int(stdout.split()[1]) for _, stdout, _ in results) == 5000
    assert [row[0] for row in sql("SELECT id FROM inserted ORDER BY id")] == list(range(1, 5001))
    assert ids(sql) == []


def test_requeue_and_discard_of_the_same_rows(sql: Sql, outbox: Database) -> None:
    """Each row goes one way; discard prints those that it deleted, and no other."""
    fill_dead(sql, 5000)
    requeue, discard = Command(outbox, "requeue", "--all"), Command(outbox, "discard", "--all", "--yes")
    (_, requeued, _), (_, printed, _) = requeue.wait(), discard.wait()
    discarded = [int(line.split("\t")[1]) for line in printed.splitlines()]
    events = ids(sql, "outbox_events")
    assert sorted(events + discarded) == list(range(1, 5001))
    assert int(requeued.split()[1]) == len(events)
    assert ids(sql) == []


class Writer(threading.Thread):
    """Inserts one event after another, and gives up where a lock keeps it for 2 s; remembers the longest wait."""

    def __init__(self, outbox: Database) -> None:
        super().__init__(daemon=True)
        self._connection = outbox.connect()
        self._stopping = threading.Event()
        self.longest = 0.0
        self.inserted = 0
        self.error: pymysql.Error | None = None

    def run(self) -> None:
        statement = f"{INSERT} (%s, 'made', 'order', 'writer', 'orders', '{{}}')"
        with self._connection.cursor() as cursor:
            # By the server's clock, of locks alone: for all else the machine may take as long as it likes.
            cursor.execute("SET SESSION innodb_lock_wait_timeout = 2")
            while not self._stopping.is_set():
                began = time.monotonic()
                try:
                    cursor.execute(statement, (str(uuid.uuid4()),))
                except pymysql.Error as error:
                    self.error = error
                    return
                self.longest = max(self.longest, time.monotonic() - began)
                self.inserted += 1

    def stop(self) -> None:
        """Ends it."""
        self._stopping.set()
        self.join()
        self._connection.close()


def test_writers_go_on_meanwhile(run: Run, sql: Sql, outbox: Database) -> None:
    """No writer fails, and none waits for longer than a part of a transaction takes."""
    fill_dead(sql, 20_000)
    sql("UPDATE outbox_deadletters SET payload = JSON_OBJECT('text', REPEAT('x', 1000))")
    writer = Writer(outbox)
    writer.start()
    began = time.monotonic()
    assert run("deadletters", "requeue", "--all").exit_code == 0
    seconds = time.monotonic() - began
    writer.stop()
    print(
        f"{outbox.server.name}: {seconds:.2f} s; {writer.inserted} inserts, the longest {writer.longest * 1000:.0f} ms"
    )
    assert writer.error is None
    assert writer.inserted > 0


def test_from_a_dead_letter_to_its_delivery(
    run: Run, sql: Sql, outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon
) -> None:
    """Too large for the configuration; listed, shown, requeued under a higher limit, delivered."""
    ledger, name = Ledger(), topic(1, **{"max.message.bytes": 3_000_000})
    payload = json.dumps({"text": "x" * 1_500_000})
    with closing(outbox.connect()) as connection:
        fill(connection, ledger, name, 20, 2)
        event_id = insert(connection, ledger, "order-x", name, payload=payload)
    first = daemon()
    until(lambda: len(ids(sql)) == 1, "it is a dead letter")
    [letter] = json.loads(run("deadletters", "list", "--json", "--topic", name).stdout)["dead_letters"]
    assert (letter["event_id"], letter["reason"]) == (event_id, "message_too_large")
    shown = run("deadletters", "show", str(letter["id"])).stdout
    assert "kafka.max_message_bytes" in shown
    assert first.stop() == 0
    daemon(KAFKA__MAX_MESSAGE_BYTES="2MiB")
    assert run("deadletters", "requeue", "--reason", "message_too_large").stdout == "requeued 1 dead letter\n"
    until(lambda: sql.one("SELECT COUNT(*) FROM outbox_events WHERE status = 1") == 21, "all are sent")
    messages = consume(kafka.bootstrap, name)
    ledger.events[event_id] = Committed("order-x", 0, payload)
    verdict = check(messages, ledger)
    assert verdict.clean, verdict.differences
    assert verdict.delivered == 21


def test_requeue_beside_the_mover(sql: Sql, outbox: Database, topic: NewTopic, daemon: StartDaemon) -> None:
    """Hopeless events come back as dead letters again and again: each is always in one table."""
    with closing(outbox.connect()) as connection:
        fill(connection, Ledger(), "orders/eu", 300, 20)
    running = daemon(DEAD_LETTERS__INTERVAL="10ms")
    until(lambda: len(ids(sql)) == 300, "they are dead letters")
    for _ in range(5):
        commands = [Command(outbox, "requeue", "--all") for _ in range(2)]
        assert [command.wait()[0] for command in commands] == [0, 0]
    until(lambda: len(ids(sql)) == 300, "they are dead letters again")
    assert running.stop() == 0
    assert len(set(ids(sql))) == 300
    assert ids(sql, "outbox_events") == []
