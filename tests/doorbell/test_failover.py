"""The daemon's address moves to a replica, whose log has other names and numbers."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest
from sqlalchemy.engine import make_url

from outboxd.model import TableNames
from outboxd.store.migrator import Migrator
from tests.doorbell.conftest import begin_log_anew
from tests.end_to_end.application import Ledger, Writer, insert
from tests.end_to_end.checker import check, consume
from tests.end_to_end.daemon import Daemon, until
from tests.servers.kafka import Kafka
from tests.servers.mariadb import MariaDB
from tests.servers.mysql import MySQL
from tests.servers.proxy import Proxy
from tests.servers.sql import SqlServer

LOGGING = ("--server-id=2", "--log-bin=standby", "--binlog-format=ROW", "--log-slave-updates=ON")
USER = "mover"

FOLLOW = {
    "mariadb": (
        "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {port}, MASTER_USER = 'root', "
        "MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1",
        "START SLAVE",
    ),
    "mysql": (
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {port}, SOURCE_USER = 'root', "
        "SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1, SOURCE_CONNECT_RETRY = 1",
        "START REPLICA",
    ),
}
CATCH_UP = {
    "mariadb": ("SELECT @@gtid_binlog_pos", "SELECT MASTER_GTID_WAIT(%s, 60)"),
    "mysql": ("SELECT @@gtid_executed", "SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, 60)"),
}
"""What is written, and a wait for it that returns 0."""
PROMOTE = {
    "mariadb": ("STOP SLAVE", "RESET SLAVE ALL"),
    "mysql": ("STOP REPLICA", "RESET REPLICA ALL"),
}


@pytest.fixture
def primary(logging_server: SqlServer) -> Iterator[SqlServer]:
    """A server whose log has everything from the tables' creation on, and a user who may do what a daemon needs."""
    begin_log_anew(logging_server)
    logging_server.create_database("moving")
    Migrator(logging_server.url("moving"), TableNames()).upgrade()
    for statement in (
        f"CREATE USER {USER}@'%' IDENTIFIED BY 'pass'",
        f"GRANT ALL ON moving.* TO {USER}@'%'",
        f"GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {USER}@'%'",
    ):
        logging_server.query(statement)
    yield logging_server
    logging_server.start()
    logging_server.query(f"DROP USER {USER}@'%'")
    logging_server.drop_database("moving")


@pytest.fixture
def standby(primary: SqlServer) -> Iterator[SqlServer]:
    """Its replica, by GTIDs. It writes a log of its own."""
    with MariaDB(*LOGGING) if primary.product == "mariadb" else MySQL(*LOGGING) as server:
        for statement in FOLLOW[primary.product]:
            server.query(statement.format(port=primary.port))
        position, wait = CATCH_UP[primary.product]
        assert server.query(wait, primary.query(position)[0][0]) == [(0,)], "it does not follow"
        yield server


def events(server: SqlServer, condition: str = "TRUE") -> int:
    """How many events it has."""
    return int(server.query(f"SELECT COUNT(*) FROM moving.outbox_events WHERE {condition}")[0][0])


def promote(standby: SqlServer) -> None:
    """It follows nobody any more."""
    for statement in PROMOTE[standby.product]:
        standby.query(statement)


def logs(server: SqlServer) -> set[str]:
    """The names of its binary logs."""
    return {str(row[0]) for row in server.query("SHOW BINARY LOGS")}


Start = Callable[[Proxy], Daemon]


@pytest.fixture
def daemon(primary: SqlServer, kafka: Kafka) -> Iterator[Start]:
    """`daemon(address)` starts one that knows the database by that address only, and returns when its bell rings."""
    with ExitStack() as stack:

        def start(address: Proxy) -> Daemon:
            place = make_url(primary.url("moving")).set(username=USER, password="pass", port=address.port)
            url = place.render_as_string(hide_password=False)
            one = Daemon(url, kafka.bootstrap, DOORBELL__KIND="binlog", DATABASE__TLS="disabled")
            stack.enter_context(one).wait_for("doorbell.ringing")
            return one

        yield start


def test_the_address_moves_to_a_replica(
    primary: SqlServer, standby: SqlServer, daemon: Start, kafka: Kafka, topic: Callable[..., str]
) -> None:
    """The primary dies. The replica does not let the bell hang at first, so polls find what is written; then it rings
    there, by itself. What the primary had said of settled rows may be lost: that comes twice, and nothing else."""
    assert not logs(primary) & logs(standby)
    name = topic()
    with Proxy(primary.port) as address:
        one = daemon(address)
        before = write(primary, name, "before", lambda: one.metric("outbox_doorbell_rings_total") > 10)
        until(lambda: events(standby) == len(before.events), "the replica has all rows")

        primary.kill()
        promote(standby)
        standby.query(f"REVOKE REPLICATION SLAVE ON *.* FROM {USER}@'%'")
        address.move(standby.port)
        polled = write(standby, name, "polled", lambda: events(standby, "aggregate_id LIKE 'polled%' AND status = 1"))
        assert one.metric("outbox_doorbell_connected") == 0

        standby.query(f"GRANT REPLICATION SLAVE ON *.* TO {USER}@'%'")
        until(lambda: len(one.events("doorbell.ringing")) == 2, "the bell hangs in the replica's log")
        rung = one.metric("outbox_doorbell_rings_total")
        heard = write(standby, name, "heard", lambda: one.metric("outbox_doorbell_rings_total") > rung)
        until(lambda: events(standby, "status <> 1") == 0, "everything is settled")

        verdict = check(consume(kafka.bootstrap, name), Ledger(before.events | polled.events | heard.events))
        assert verdict.clean, verdict.differences
        assert [line for line in one.log if line["level"] in {"error", "critical"}] == []
        assert one.stop() == 0


def write(server: SqlServer, topic: str, name: str, enough: Callable[[], object]) -> Ledger:
    """An application writes until it is enough."""
    writer = Writer(server.connect("moving"), topic, name)
    writer.start()
    until(enough, f"it is enough of {name}")
    ledger = writer.stop()
    assert writer.errors == []
    return ledger


def test_an_id_that_the_replica_gives_again(
    primary: SqlServer, standby: SqlServer, daemon: Start, kafka: Kafka, topic: Callable[..., str]
) -> None:
    """The primary dies with a row that the replica never got. It was delivered, and is about to be settled; the next
    event on the replica has its id, and is not what was delivered."""
    name, ledger = topic(), Ledger()
    with Proxy(primary.port) as address:
        one = daemon(address)
        promote(standby)
        settles = address.cut("UPDATE `outbox_events` .* SET status = 1", executed=False, times=10_000)
        with closing(primary.connect("moving")) as connection:
            insert(connection, ledger, "order-1", name)
        one.wait_for("settle.waiting")
        primary.kill()
        with closing(standby.connect("moving")) as connection:
            insert(connection, ledger, "order-1", name)
        assert standby.query("SELECT id, status FROM moving.outbox_events") == [(1, 0)]
        settles.times = 0
        address.move(standby.port)
        until(lambda: events(standby, "status = 1") == 1, "it is settled")
        verdict = check(consume(kafka.bootstrap, name), ledger)
        assert verdict.clean, verdict.differences
