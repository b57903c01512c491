"""What can happen to a database, under load: nothing is lost, reordered, or counted against an event."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pymysql
import pytest
from sqlalchemy.engine import make_url

from tests.conftest import Database
from tests.end_to_end.daemon import Daemon, until
from tests.end_to_end.steadfast import ACCOUNT, Load, SteadfastWriter, threads
from tests.servers.kafka import Kafka
from tests.servers.proxy import Proxy
from tests.servers.sql import SqlServer

NewTopic = Callable[..., str]
StartDaemon = Callable[..., Daemon]


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
    """`work(port=..., LEASE__TTL="2s")` starts a daemon under its own account, and returns when it delivers."""
    with ExitStack() as stack:

        def start(port: int | None = None, **settings: str) -> Daemon:
            url = make_url(load.outbox.url).set(username=ACCOUNT, port=port or load.outbox.server.port)
            given = {"DATABASE__TLS": "disabled", "RETRY__INTERVAL": "200ms"} | settings
            daemon = stack.enter_context(Daemon(url.render_as_string(False), load.bootstrap, **given))
            daemon.wait_for("lease.lanes", owned=64)
            load.until_more_is_sent()
            return daemon

        yield start


def test_a_restart_in_good_order(load: Load, work: StartDaemon) -> None:
    """The server ends its connections, is away for a moment, and comes back."""
    daemon = work()
    load.outbox.server.restart()
    load.until_more_is_sent()
    load.prove(daemon)


def test_kill_9(load: Load, work: StartDaemon) -> None:
    """Twice; the second time it stays away for longer than the lease."""
    daemon = work()
    load.outbox.server.kill()
    load.outbox.server.start()
    load.until_more_is_sent()
    load.outbox.server.kill()
    until(lambda: daemon.get("/readyz").status_code == 503, "the lease runs out")
    load.outbox.server.start()
    load.until_more_is_sent()
    load.prove(daemon)


def test_a_server_that_hangs(load: Load, work: StartDaemon) -> None:
    """SIGSTOP, for longer than the read time-out and the lease: every thread comes back from its statement."""
    daemon = work(DATABASE__READ_TIMEOUT="2s")
    before = threads(daemon)
    load.outbox.server.pause()
    try:
        until(lambda: daemon.get("/readyz").status_code == 503, "the lease runs out")
        daemon.wait_for("database.unavailable")
    finally:
        load.outbox.server.resume()
    load.until_more_is_sent()
    load.prove(daemon)
    assert threads(daemon) <= before


def test_a_failover_to_a_read_only_node_and_back(load: Load, work: StartDaemon) -> None:
    """1290: the server takes no writes for longer than the lease."""
    daemon = work()
    variable = "super_read_only" if load.outbox.server.product == "mysql" else "read_only"
    load.outbox.server.query(f"SET GLOBAL {variable} = 1")
    try:
        said = daemon.wait_for("database.unavailable")
        assert said["reason"].startswith("database: 1290 ")
        until(lambda: daemon.get("/readyz").status_code == 503, "the lease runs out")
    finally:
        load.outbox.server.query(f"SET GLOBAL {variable} = 0")
        load.outbox.server.query("SET GLOBAL read_only = 0")
    load.until_more_is_sent()
    load.prove(daemon)


def test_transactions_that_are_read_only(load: Load, work: StartDaemon) -> None:
    """1792: new connections may only read; the old ones are ended."""
    daemon = work()
    variable = "transaction_read_only" if load.outbox.server.product == "mysql" else "tx_read_only"
    load.outbox.server.query(f"SET GLOBAL {variable} = 1")
    try:
        for connection in load.connections():
            load.outbox.server.query(f"KILL {connection}")
        until(lambda: daemon.get("/readyz").status_code == 503, "the lease runs out")
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
    daemon = work()
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
            end = time.monotonic() + 20
            while not any(f"database: {code} " in line.get("reason", "") for line in daemon.log):
                assert time.monotonic() < end, f"the daemon was not refused: {daemon.log[-5:]}"
                with suppress(pymysql.Error):
                    while True:
                        idle.enter_context(limited.connect(user=ACCOUNT))
                # Those of the daemon are the ones that have chosen the database.
                cursor.execute(
                    "SELECT id FROM information_schema.processlist WHERE user = %s AND db = %s",
                    (ACCOUNT, load.outbox.name),
                )
                for (connection,) in cursor.fetchall():
                    with suppress(pymysql.OperationalError):
                        cursor.execute(f"KILL {connection}")
        finally:
            cursor.execute(no_limit)
    load.until_more_is_sent()
    load.prove(daemon)


@pytest.mark.parametrize("executed", [True, False], ids=["after", "before"])
@pytest.mark.parametrize("statement", ["^COMMIT", "^UPDATE `outbox_events` SET status = 1", "^SELECT id, lane"])
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
    """Each of them, as fast as the server does it, for seconds."""
    daemon = work()
    killed, end = 0, time.monotonic() + 5
    while time.monotonic() < end:
        for connection in load.connections():
            with suppress(pymysql.OperationalError):
                load.outbox.server.query(f"KILL {connection}")
                killed += 1
        time.sleep(0.05)
    assert killed > 20
    load.until_more_is_sent()
    load.prove(daemon)


def test_an_outage_is_told_once_and_tried_with_patience(load: Load, work: StartDaemon) -> None:
    """Five seconds without a database: a few attempts, not many; a line when it goes and a line when it is back."""
    with Proxy(load.outbox.server.port) as proxy:
        daemon = work(proxy.port)
        begun = len(daemon.log)
        proxy.refuse()
        before, end = proxy.accepted, time.monotonic() + 5
        until(lambda: time.monotonic() > end, "five seconds have passed")
        attempts = proxy.accepted - before
        proxy.accept()
        load.until_more_is_sent()
        load.prove(daemon)
        said = [line["event"] for line in daemon.log[begun:]]
        print(f"{attempts} attempts in 5 s; it said {said}")
        assert 4 <= attempts <= 40
        assert said.count("database.unavailable") == 1
        assert said.count("database.recovered") == 1


def test_rows_that_somebody_locks(load: Load, work: StartDaemon) -> None:
    """1205: a session holds rows for longer than anybody waits. The others go on, and so does the lease."""
    daemon = work()
    with load.outbox.connect() as connection, connection.cursor() as cursor:
        connection.begin()
        cursor.execute(
            "INSERT INTO outbox_events (event_id, event_type, aggregate_type, aggregate_id, topic, payload, status, "
            "next_attempt_at) VALUES (UUID(), 'x', 'x', 'locked', %s, '1', 2, '2020-01-01')",
            (load.topic,),
        )
        connection.commit()
        connection.begin()
        cursor.execute("SELECT id FROM outbox_events WHERE aggregate_id = 'locked' FOR UPDATE")
        end = time.monotonic() + 8
        while time.monotonic() < end:
            load.until_more_is_sent(20)
        cursor.execute("DELETE FROM outbox_events WHERE aggregate_id = 'locked'")
        connection.commit()
    assert not daemon.events("lease.lost")
    load.prove(daemon)


def test_the_daemon_is_stopped_while_the_database_hangs(load: Load, work: StartDaemon) -> None:
    """It ends by itself, within the bounds of its goodbye."""
    daemon = work(DATABASE__READ_TIMEOUT="2s", RELAY__DRAIN_TIMEOUT="2s")
    load.outbox.server.pause()
    try:
        daemon.signal(signal.SIGTERM)
        assert daemon.wait(25) == 0
    finally:
        load.outbox.server.resume()
