"""What can happen to a database, under load: nothing is lost, reordered, or counted against an event."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pymysql
import pytest
from sqlalchemy.engine import make_url

from outboxd.model import TableNames
from outboxd.store.migrator import Migrator
from tests.conftest import Database
from tests.end_to_end.application import insert
from tests.end_to_end.daemon import Daemon, until
from tests.end_to_end.steadfast import ACCOUNT, Load, SteadfastWriter, threads
from tests.servers.kafka import Kafka
from tests.servers.mariadb import MariaDB
from tests.servers.mysql import MySQL
from tests.servers.proxy import Proxy
from tests.servers.sql import SqlServer

NewTopic = Callable[..., str]
StartDaemon = Callable[..., Daemon]

PYMYSQL, MYSQLDB = "mysql+pymysql", "mysql+mysqldb"

UPDATE = "UPDATE `outbox_events` FORCE INDEX (PRIMARY) SET "
SETTLE = f"{UPDATE}status = 1 WHERE%"


@pytest.fixture
def load(outbox: Database, kafka: Kafka, topic: NewTopic) -> Iterator[Load]:
    """Two writers at work, and an account for the daemon."""
    server = outbox.server
    server.query(f"CREATE USER IF NOT EXISTS {ACCOUNT}@'%'")
    server.query(f"GRANT SELECT, INSERT, UPDATE, DELETE ON `{outbox.name}`.* TO {ACCOUNT}@'%'")
    name = topic(3)
    writers = [SteadfastWriter(outbox.connect, name, f"writer{number}") for number in range(2)]
    for writer in writers:
        writer.start()
    yield Load(outbox, kafka.bootstrap, name, writers)
    for writer in writers:
        writer.stop()
    outbox.server.start()
    for (connection,) in server.query("SELECT id FROM information_schema.processlist WHERE user = %s", ACCOUNT):
        with suppress(pymysql.Error):
            server.query(f"KILL {connection}")
    server.query(f"DROP USER {ACCOUNT}@'%'")


@pytest.fixture
def work(load: Load) -> Iterator[StartDaemon]:
    """`work(driver=..., LEASE__TTL="2s")` starts a daemon under its own account, and returns when it delivers."""
    with ExitStack() as stack:

        def start(port: int | None = None, driver: str = PYMYSQL, **settings: str) -> Daemon:
            place = make_url(load.outbox.url).set(username=ACCOUNT, port=port or load.outbox.server.port)
            url = place.set(drivername=driver)
            given = {"DATABASE__TLS": "disabled", "RETRY__INTERVAL": "200ms"} | settings
            daemon = stack.enter_context(Daemon(url.render_as_string(False), load.bootstrap, **given))
            daemon.wait_for("lease.lanes", owned=64)
            load.until_more_is_sent()
            return daemon

        yield start


def without_lease(daemon: Daemon) -> bool:
    """It says that the database is out of reach; a broker's stall makes it unready, too."""
    return bool(daemon.get("/readyz").json()["checks"]["default.database"] != "ok")


def test_a_restart_in_good_order(load: Load, work: StartDaemon) -> None:
    """The server ends its connections, is away for a moment, and comes back."""
    daemon = work()
    load.outbox.server.restart()
    load.until_more_is_sent()
    load.prove(daemon)


@pytest.mark.usefixtures("mysqlclient")
@pytest.mark.parametrize("driver", [PYMYSQL, MYSQLDB])
def test_kill_9(load: Load, work: StartDaemon, driver: str) -> None:
    """Twice; the second time it stays away for longer than the lease."""
    daemon = work(driver=driver, LEASE__TTL="3s")
    load.outbox.server.kill()
    load.outbox.server.start()
    load.until_more_is_sent()
    load.outbox.server.kill()
    until(lambda: without_lease(daemon), "the lease runs out")
    load.outbox.server.start()
    load.until_more_is_sent()
    load.prove(daemon)


@pytest.mark.usefixtures("mysqlclient")
@pytest.mark.parametrize("driver", [PYMYSQL, MYSQLDB])
def test_a_server_that_hangs(load: Load, work: StartDaemon, driver: str) -> None:
    """SIGSTOP, for longer than the read time-out and the lease: every thread comes back from its statement."""
    daemon = work(driver=driver, DATABASE__READ_TIMEOUT="2s", LEASE__TTL="3s")
    before, begun = threads(daemon), len(daemon.log)
    load.outbox.server.pause()
    try:
        until(lambda: without_lease(daemon), "the lease runs out")
        daemon.wait_for("database.unavailable", since=begun)
    finally:
        load.outbox.server.resume()
    load.until_more_is_sent()
    load.prove(daemon)
    assert threads(daemon) <= before


def test_a_failover_to_a_read_only_node_and_back(load: Load, work: StartDaemon) -> None:
    """1290: the server takes no writes for longer than the lease."""
    daemon = work(LEASE__TTL="3s")
    variable = "super_read_only" if load.outbox.server.product == "mysql" else "read_only"
    load.outbox.server.query(f"SET GLOBAL {variable} = 1")
    try:

        def told() -> bool:
            lines = daemon.events("database.unavailable")
            return any(line["reason"].startswith("database: 1290 ") for line in lines)

        until(told, "it says why")
        until(lambda: without_lease(daemon), "the lease runs out")
    finally:
        load.outbox.server.query(f"SET GLOBAL {variable} = 0")
        load.outbox.server.query("SET GLOBAL read_only = 0")
    load.until_more_is_sent()
    load.prove(daemon)


def test_transactions_that_are_read_only(load: Load, work: StartDaemon) -> None:
    """1792: new connections may only read; the old ones are ended."""
    daemon = work(LEASE__TTL="3s")
    variable = "transaction_read_only" if load.outbox.server.product == "mysql" else "tx_read_only"
    load.outbox.server.query(f"SET GLOBAL {variable} = 1")
    try:
        for connection in load.connections():
            with suppress(pymysql.OperationalError):  # it has just ended by itself
                load.outbox.server.query(f"KILL {connection}")
        until(lambda: without_lease(daemon), "the lease runs out")
    finally:
        # The new connection of this statement is read-only too, but SET is no write.
        load.outbox.server.query(f"SET GLOBAL {variable} = 0")
    load.until_more_is_sent()
    load.prove(daemon)


@pytest.fixture
def limited(outbox: Database) -> Iterator[SqlServer]:
    """A server whose limit per user may be changed: MariaDB refuses that when it was started without one."""
    server = outbox.server
    server.stop()
    server.arguments.append("--max-user-connections=1000")
    server.start()
    yield server
    server.stop()
    server.arguments.remove("--max-user-connections=1000")
    server.start()


@pytest.mark.parametrize("code", [1040, 1203, 1226])
def test_no_connection_is_to_be_had(limited: SqlServer, load: Load, work: StartDaemon, code: int) -> None:
    """Of the server, of any user, of this user: the daemon's own are ended, and idle ones take their places."""
    daemon = work(LEASE__TTL="3s")
    limit, no_limit = {
        1040: ("SET GLOBAL max_connections = 20", "SET GLOBAL max_connections = 151"),
        1203: ("SET GLOBAL max_user_connections = 12", "SET GLOBAL max_user_connections = 1000"),
        1226: (
            f"ALTER USER {ACCOUNT}@'%' WITH MAX_USER_CONNECTIONS 12",
            f"ALTER USER {ACCOUNT}@'%' WITH MAX_USER_CONNECTIONS 0",
        ),
    }[code]
    with ExitStack() as idle, limited.connect() as control, control.cursor() as cursor:
        cursor.execute(limit)
        try:
            refused: set[int] = set()

            def out() -> bool:
                # A connection that is killed takes a moment to go, and the daemon is back in a tenth of a second.
                taking = time.monotonic() + 0.1
                while time.monotonic() < taking:
                    try:
                        idle.enter_context(limited.connect(user=ACCOUNT))
                    except pymysql.Error as error:
                        refused.add(error.args[0])
                        time.sleep(0.002)
                if without_lease(daemon):
                    return True
                # Those of the daemon are the ones that have chosen the database.
                cursor.execute(
                    "SELECT id FROM information_schema.processlist WHERE user = %s AND db = %s",
                    (ACCOUNT, load.outbox.name),
                )
                for (connection,) in cursor.fetchall():
                    with suppress(pymysql.OperationalError):
                        cursor.execute(f"KILL {connection}")
                return False

            until(out, "the daemon is refused until its lease runs out")
            assert refused == {code}
        finally:
            cursor.execute(no_limit)
    load.until_more_is_sent()
    load.prove(daemon)


@pytest.mark.parametrize("executed", [True, False], ids=["after", "before"])
@pytest.mark.parametrize("statement", ["COMMIT", "UPDATE `outbox_events` .* SET status = 1", "SELECT id, lane"])
def test_the_connection_is_lost_around_a_statement(
    load: Load, work: StartDaemon, statement: str, executed: bool
) -> None:
    """Before the server has it, or after it was executed and before the answer is there: it is read again."""
    with Proxy(load.outbox.server.port) as proxy:
        daemon = work(proxy.port)
        cut = proxy.cut(statement, executed=executed, times=5)
        with load.outbox.connect() as connection, connection.cursor() as cursor:

            def lost() -> bool:
                # Retries that come due keep transactions coming.
                cursor.execute(
                    "INSERT INTO outbox_events (event_id, event_type, aggregate_type, aggregate_id, topic, payload, "
                    "status, next_attempt_at) SELECT UUID(), '', '', UUID(), 'orders/eu', '1', 2, NOW()"
                )
                return cut.times == 0

            until(lost, "the connection was lost five times")
            until(lambda: load.count("topic = 'orders/eu'") == 0, "all of these are dead letters")
            cursor.execute("DELETE FROM outbox_deadletters")
        load.until_more_is_sent()
        load.prove(daemon)


def test_connections_that_are_killed_in_a_tight_loop(load: Load, work: StartDaemon) -> None:
    """Each of them as soon as it is there, thirty times."""
    daemon = work()
    killed = 0

    def kill() -> bool:
        nonlocal killed
        for connection in load.connections():
            with suppress(pymysql.OperationalError):
                load.outbox.server.query(f"KILL {connection}")
                killed += 1
        return killed >= 30

    until(kill, "thirty are killed", 60)
    load.until_more_is_sent()
    load.prove(daemon)


def test_an_outage_is_told_once_and_tried_with_patience(load: Load, work: StartDaemon) -> None:
    """Seconds without a database: a few attempts, not many; a line when it goes and a line when it is back."""
    with Proxy(load.outbox.server.port) as proxy:
        daemon = work(proxy.port)
        begun = len(daemon.log)
        proxy.refuse()
        before, began = proxy.accepted, time.monotonic()
        until(lambda: time.monotonic() > began + 5 and proxy.accepted >= before + 4, "it tries again and again")
        attempts, seconds = proxy.accepted - before, time.monotonic() - began
        proxy.accept()
        load.until_more_is_sent()
        load.prove(daemon)
        daemon.wait_for("database.recovered", since=begun)
        said = [line["event"] for line in daemon.log[begun:]]
        print(f"{attempts} attempts in {seconds:.1f} s; it said {said}")
        assert attempts <= 8 * seconds
        assert said.count("database.unavailable") == 1
        assert said.count("database.recovered") == 1


def test_a_retry_that_somebody_locks(load: Load, work: StartDaemon) -> None:
    """It is left, and nobody waits for it: retries in the lanes in front of it and behind are delivered meanwhile."""
    daemon = work()
    with load.outbox.connect() as connection, connection.cursor() as cursor:
        due = {"status": 2, "next_attempt_at": "2037-01-01 00:00:00"}
        locked = insert(connection, load.ledger, "locked", load.topic, **due)
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        with asleep(daemon):  # or it may be faster
            cursor.execute(
                "UPDATE outbox_events SET next_attempt_at = NOW() + INTERVAL 1 SECOND WHERE event_id = %s", (locked,)
            )
            connection.begin()
            assert cursor.execute("SELECT id FROM outbox_events WHERE event_id = %s FOR UPDATE", (locked,))
        until(lambda: load.count("event_id = %s AND next_attempt_at < NOW()", locked), "it is due")
        with load.outbox.connect() as other:
            retries = [insert(other, load.ledger, f"retry-{n}", load.topic, **due | PAST) for n in range(20)]
        for retry in retries:
            until(lambda retry=retry: load.count("event_id = %s AND status = 1", retry), "its neighbours are delivered")
        assert load.count("event_id = %s AND status = 2", locked)
        connection.commit()
    assert not daemon.events("database.unavailable")
    load.prove(daemon)


PAST = {"next_attempt_at": "2020-01-01 00:00:00"}


def test_a_delivered_row_that_somebody_locks(load: Load, work: StartDaemon) -> None:
    """1205: for longer than anybody waits. The lease goes on, and so does delivery once the row is free."""
    daemon = work(LEASE__TTL="15s")
    with load.outbox.connect() as connection, lock_a_new_row(connection, load, daemon):
        said = daemon.wait_for("settle.waiting")
        assert said["reason"].startswith("database: 1205 ")
    load.until_more_is_sent()
    assert not daemon.events("lease.lost")
    assert not daemon.events("lease.resumed")
    load.prove(daemon)


def test_deadlocks(load: Load, work: StartDaemon) -> None:
    """1213: real ones, of which the daemon is the victim, because the other transaction has written more."""
    daemon = work(LEASE__TTL="60s")  # an eighth of it is how long it waits for a lock
    server = load.outbox.server
    with load.outbox.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE ballast (n INT PRIMARY KEY AUTO_INCREMENT, text VARCHAR(10))")
        before = deadlocks(server)

        def three() -> bool:
            with lock_a_new_row(connection, load, daemon) as neighbour:
                # More than there are in a batch.
                cursor.executemany("INSERT INTO ballast (text) VALUES (%s)", [("x",)] * 5000)
                until(lambda: server.waits_for_lock(SETTLE), "the daemon waits for it")
                # It holds the row in front of it; now each waits for the other.
                cursor.execute("UPDATE outbox_events SET event_type = event_type WHERE event_id = %s", (neighbour,))
            return deadlocks(server) >= before + 3

        until(three, "they met three times")
    assert not daemon.events("lease.lost")
    load.prove(daemon)


@contextmanager
def lock_a_new_row(connection: "pymysql.Connection[Any]", load: Load, daemon: Daemon) -> Iterator[str]:
    """A transaction that holds a new event, which the daemon sends and then wants to settle, behind an event of the
    same batch, whose event id is yielded."""
    with connection.cursor() as cursor:
        # Without the lock on a gap, in which the writers' next event ids may fall.
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        with asleep(daemon):
            connection.begin()
            neighbour, event = (insert(connection, load.ledger, "locked", load.topic) for _ in range(2))
            connection.commit()
            connection.begin()
            assert cursor.execute("SELECT id FROM outbox_events WHERE event_id = %s FOR UPDATE", (event,))
        yield neighbour
        connection.commit()


@contextmanager
def asleep(daemon: Daemon) -> Iterator[None]:
    """Meanwhile it does nothing."""
    daemon.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        daemon.signal(signal.SIGCONT)


def deadlocks(server: SqlServer) -> int:
    """How many InnoDB has resolved."""
    if server.product == "mariadb":
        return int(server.query("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'")[0][1])
    return int(server.query("SELECT count FROM information_schema.innodb_metrics WHERE name = 'lock_deadlocks'")[0][0])


@pytest.mark.parametrize("code", [1020, 1021, 1114, 1205, 1213])
def test_writes_that_the_server_refuses_for_a_while(load: Load, work: StartDaemon, code: int) -> None:
    """Record changed, disk full, table full, lock time-out, deadlock: a third of the time, whatever is written."""
    daemon = work()
    with load.outbox.connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            "CREATE TRIGGER refuse BEFORE UPDATE ON outbox_events FOR EACH ROW "
            "IF MICROSECOND(NOW(6)) < 300000 THEN "
            f"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {code}, MESSAGE_TEXT = 'not now'; END IF"
        )
        end = time.monotonic() + 5
        while time.monotonic() < end:
            load.until_more_is_sent(10)
        cursor.execute("DROP TRIGGER refuse")
    load.prove(daemon, most_duplicates=0)


@pytest.fixture(params=[MariaDB, MySQL])
def full_disk_server(request: pytest.FixtureRequest, small_disk: Path) -> Iterator[SqlServer]:
    """A server on a small disk."""
    small = {"mariadb": ["--innodb-log-file-size=16M"], "mysql": ["--innodb-redo-log-capacity=16M"]}
    # A server that is missing is reported, or fails the run, here.
    request.getfixturevalue(request.param.product)
    server = request.param("--disable-log-bin", *small[request.param.product])
    server.folder.rmdir()
    server.folder = small_disk / "server"
    server.folder.mkdir()
    server.log = small_disk.parent / "server.log"
    with server:
        yield server


def test_a_disk_that_is_full(full_disk_server: SqlServer, kafka: Kafka, topic: NewTopic) -> None:
    """It fills under load until nothing can be written. When there is room again everything goes on."""
    server, name = full_disk_server, topic(3)
    server.create_database("outbox")
    outbox = Database(server, "outbox")
    Migrator(outbox.url, TableNames()).upgrade()
    server.query(f"CREATE USER {ACCOUNT}@'%'")
    server.query(f"GRANT SELECT, INSERT, UPDATE, DELETE ON outbox.* TO {ACCOUNT}@'%'")
    load = Load(outbox, kafka.bootstrap, name, [SteadfastWriter(outbox.connect, name, "writer", size=20_000)])
    url = make_url(outbox.url).set(username=ACCOUNT).render_as_string(False)
    filler = server.folder / "filler"
    with Daemon(url, kafka.bootstrap, DATABASE__READ_TIMEOUT="2s") as daemon:
        daemon.wait_for("lease.lanes", owned=64)
        for writer in load.writers:
            writer.start()
        load.until_more_is_sent(100)
        with filler.open("wb") as file, suppress(OSError):
            while True:
                file.write(bytes(2**20))
                file.flush()
        until(lambda: load.writers[0].failures > 3 or daemon.events("database.unavailable"), "nothing can be written")
        full = time.monotonic() + 5
        until(lambda: time.monotonic() > full, "five seconds have passed")
        filler.unlink()
        server.start()  # if it has given up
        load.until_more_is_sent(100)
        load.prove(daemon)
        print(f"the writer failed {load.writers[0].failures} times; the daemon said {daemon.log[-12:]}")


def test_the_daemon_is_stopped_while_the_database_hangs(load: Load, work: StartDaemon) -> None:
    """It ends by itself, within the bounds of its goodbye."""
    daemon = work(DATABASE__READ_TIMEOUT="2s", RELAY__DRAIN_TIMEOUT="2s")
    load.outbox.server.pause()
    try:
        daemon.signal(signal.SIGTERM)
        assert daemon.wait(25) == 0
    finally:
        load.outbox.server.resume()
