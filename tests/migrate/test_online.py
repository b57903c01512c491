"""Writers go on while the tables change, and two migrators do not meet."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest

from outboxd.errors import SchemaError
from outboxd.store.migrator import Migrator
from tests.conftest import Database
from tests.end_to_end.daemon import PATIENCE, until
from tests.migrate.support import NAMES, Sql, migrate, model, shapes

PRELOADED = 5 * 2**14


class Writer:
    """An application that inserts all along, on a connection of its own, and notes what it sees."""

    def __init__(self, database: Database, insert: Callable[[Sql], object] = Sql.insert_event) -> None:
        self._database = database
        self._insert = insert
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self.inserted = 0
        self.longest = 0.0
        """Seconds that the slowest INSERT took."""
        self.error: Exception | None = None

    def _write(self) -> None:
        try:
            with closing(self._database.connect()) as connection:
                sql = Sql(connection)
                while not self._stop.is_set():
                    started = time.monotonic()
                    self._insert(sql)
                    self.longest = max(self.longest, time.monotonic() - started)
                    self.inserted += 1
        except Exception as error:  # whatever it is, the test shows it
            self.error = error

    def await_inserts(self, count: int) -> None:
        """Returns when that many more were inserted."""
        goal = self.inserted + count
        deadline = time.monotonic() + PATIENCE
        while self.inserted < goal:
            assert self.error is None, self.error
            assert time.monotonic() < deadline, "the writer stands still"
            time.sleep(0.005)

    @contextmanager
    def running(self) -> Iterator["Writer"]:
        """Writes until the block ends; then nothing may have gone wrong."""
        self._thread.start()
        try:
            self.await_inserts(20)
            yield self
            self.await_inserts(20)
        finally:
            self._stop.set()
            self._thread.join()
        assert self.error is None, self.error


def preload(sql: Sql) -> None:
    """A table of some size, with a backlog in every status."""
    sql.make_go_tables()
    columns = "event_type, aggregate_type, aggregate_id, status, topic, payload"
    for status in range(5):
        sql.insert_event(status)
    while sql.one("SELECT COUNT(*) FROM outbox_events") < PRELOADED:  # doubles
        sql(
            f"INSERT INTO outbox_events (event_id, {columns}) "
            f"SELECT UUID(), event_type, aggregate_type, CONCAT('o-', id), status, topic, payload FROM outbox_events"
        )


def test_writers_go_on_while_the_tables_change(database: Database, sql: Sql) -> None:
    """With 80,000 rows, up and down: no error, no row is missing, and no INSERT waits for long.

    What another table's writer waits for is no wait for the change: a machine that stalls stops both.
    """
    preload(sql)
    sql("CREATE TABLE control (id INT AUTO_INCREMENT PRIMARY KEY)")
    writer = Writer(database)
    control = Writer(database, lambda sql: sql("INSERT INTO control VALUES ()"))
    with control.running(), writer.running():
        lines = migrate(database.url)
        Migrator(database.url, NAMES).downgrade("0001")
        migrate(database.url)
    assert any(line.startswith("outbox_events: adopted (8") for line in lines)
    assert sql.one("SELECT COUNT(*) FROM outbox_events") == PRELOADED + writer.inserted
    longest = f"{writer.longest:.2f} s, and {control.longest:.2f} s where nothing changes"
    assert writer.longest < 2 + control.longest, longest
    assert shapes(database.url)["events"] == model()["events"]


@contextmanager
def open_transaction(database: Database) -> Iterator[None]:
    """A session that has read the table and forgot to end its transaction."""
    with closing(database.connect()) as connection:
        Sql(connection)("START TRANSACTION")
        Sql(connection)("SELECT COUNT(*) FROM outbox_events")
        yield


def test_an_open_transaction_delays_the_change_and_not_the_writers(database: Database, sql: Sql) -> None:
    """The change waits in short turns, says so, and writers get in between; once the transaction ends, it is done."""
    sql.make_go_tables()
    sql.insert_event()
    waiting = threading.Event()
    lines: list[str] = []

    def report(line: str) -> None:
        lines.append(line)
        if line.startswith("waiting"):
            waiting.set()

    writer = Writer(database)
    with ThreadPoolExecutor(1) as pool, writer.running():
        with open_transaction(database):
            work: Future[None] = pool.submit(Migrator(database.url, NAMES, report=report).upgrade)
            assert waiting.wait(PATIENCE)
            writer.await_inserts(200)
            assert not work.done()
        work.result(60)
    told = [line for line in lines if line.startswith("waiting")]
    assert len(set(told)) == len(told), "it says more than once what it waits for"
    assert Migrator(database.url, NAMES).current() == "0003"


def test_a_transaction_that_never_ends_is_named(database: Database, sql: Sql) -> None:
    """When patience is over the error says what to end; afterwards the next run finishes."""
    sql.make_go_tables()
    with (
        open_transaction(database),
        pytest.raises(SchemaError, match=r"a transaction .* stays open and keeps 'ALTER TAB"),
    ):
        Migrator(database.url, NAMES, patience=0).upgrade()
    assert Migrator(database.url, NAMES).current() == "0001"
    migrate(database.url)
    assert Migrator(database.url, NAMES).current() == "0003"


def test_a_table_without_instant_changes_is_changed_in_place(database: Database, sql: Sql) -> None:
    """A compressed table can have no INSTANT column; it gets it by an algorithm that lets writers go on as well."""
    sql.make_go_tables(charset="ROW_FORMAT=COMPRESSED")
    sql.insert_event()
    migrate(database.url)
    assert shapes(database.url) == model()
    assert sql.one("SELECT COUNT(*) FROM outbox_events") == 1


def test_a_change_that_would_lock_writers_out_is_refused(database: Database, sql: Sql) -> None:
    """A full-text index forbids both online algorithms there: the error says what to do, and no row is copied."""
    sql.make_go_tables(charset="ROW_FORMAT=COMPRESSED")
    sql("ALTER TABLE outbox_events ADD FULLTEXT INDEX ft (last_error)")
    with pytest.raises(SchemaError, match=r"outbox_events: the server cannot do 'ADD COLUMN .*' while writers go on"):
        migrate(database.url)
    assert Migrator(database.url, NAMES).current() == "0001"


def test_several_processes_at_once(database: Database) -> None:
    """All of them succeed, and one does the work."""
    command = [sys.executable, "-m", "outboxd", "migrate"]
    environment = os.environ | {"OUTBOXD_DATABASE_URL": database.url}
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    assert sum("0003" in output and ": done" in output for output in outputs) == 1
    assert sum("nothing to do, at revision 0003" in output for output in outputs) == 2
    assert shapes(database.url) == model()


def test_the_second_waits_for_the_first(database: Database, sql: Sql) -> None:
    """While one holds the lock another changes nothing, even where it could; then it finds everything done."""
    first, second = Migrator(database.url, NAMES), Migrator(database.url, NAMES)
    with ThreadPoolExecutor(1) as pool:
        with first._connected() as connection, first._alone(connection):
            work = pool.submit(second.upgrade)
            waits = (
                "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND state LIKE 'User %lock'"
            )
            until(lambda: sql.one(waits), "the second asks for the lock")
            assert sql.tables() == set()
        work.result(30)
    assert shapes(database.url) == model()
