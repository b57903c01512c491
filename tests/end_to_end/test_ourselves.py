"""Trouble of our own, in the log, the metrics, the HTTP port or one worker, does not stop delivery."""

import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.conftest import Database
from tests.end_to_end.application import Ledger, fill, insert
from tests.end_to_end.checker import Verdict, check, consume
from tests.end_to_end.daemon import PATIENCE, Daemon, until
from tests.servers.kafka import Kafka
from tests.servers.server import free_port

Count = Callable[..., int]
StartDaemon = Callable[..., Daemon]
NewTopic = Callable[..., str]

# None of it concerns the database.
pytestmark = pytest.mark.parametrize("database_server", ["mariadb"], indirect=True)

BOUND = 40.0
"""Seconds in which a daemon in trouble must have stopped."""


@pytest.fixture
def delivers(outbox: Database, kafka: Kafka, topic: NewTopic, count: Count) -> Iterator[Callable[[], None]]:
    """Writes events, some of them bad, and waits until the good ones have arrived, in order."""
    name, ledger = topic(3), Ledger()

    def deliver() -> None:
        with outbox.connect() as connection:
            insert(connection, Ledger(), "bad", "no/such topic")
            fill(connection, ledger, name, 500, 20)
        until(lambda: count("status <> 1") == 0, "everything is delivered or a dead letter")
        assert check(consume(kafka.bootstrap, name), ledger) == Verdict(delivered=len(ledger.events))

    return deliver


def ends(daemon: Daemon) -> None:
    """It stops in order, and soon."""
    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < BOUND


# --- the log ----------------------------------------------------------------------------------------------------


@contextmanager
def full_disk(_: Path) -> Iterator[str]:
    """Every write fails."""
    yield "/dev/full"


@contextmanager
def no_reader(folder: Path) -> Iterator[str]:
    """A pipe whose reader has gone; the shell needs one to open it."""
    path = folder / "log"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def hang_up() -> None:
        select.select([reader], [], [], PATIENCE)  # the first line
        os.close(reader)

    hanging_up = threading.Thread(target=hang_up)
    hanging_up.start()
    yield str(path)
    hanging_up.join()


@contextmanager
def sleeping_reader(folder: Path) -> Iterator[str]:
    """A pipe that is full, and nobody reads it."""
    path = folder / "log"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    yield str(path)
    os.close(writer)
    os.close(reader)


@pytest.mark.parametrize("log", [full_disk, no_reader, sleeping_reader])
def test_a_log_that_cannot_be_written(
    outbox: Database, kafka: Kafka, delivers: Callable[[], None], tmp_path: Path, log: Callable[[Path], Iterator[str]]
) -> None:
    """Lines are counted, events delivered, the lease renewed; the end is as ever."""
    port = free_port()
    with ExitStack() as stack:
        path = stack.enter_context(log(tmp_path))  # type: ignore[arg-type]
        program = ("sh", "-c", f'exec "$0" "$@" 2>{path}', sys.executable, "-m", "outboxd")
        running = stack.enter_context(Daemon(outbox.url, kafka.bootstrap, program=program, HTTP__PORT=str(port)))
        for _ in range(3):
            delivers()
        page = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
        lost = next(line for line in page.splitlines() if line.startswith("outboxd_log_lost_total"))
        # Behind a reader that sleeps lines wait for a while before they are lost.
        assert log is sleeping_reader or float(lost.split()[1]) > 0
        assert httpx.get(f"http://127.0.0.1:{port}/livez", timeout=30).status_code == 200
        ends(running)
    with outbox.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM outbox_instances")
        assert cursor.fetchone() == (0,)


# --- metrics by OTLP --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answers", ["never", "refused"])
def test_a_collector_that_is_dead(daemon: StartDaemon, delivers: Callable[[], None], answers: str) -> None:
    """Its connections are accepted and never answered, or refused."""
    with socket.create_server(("127.0.0.1", 0 if answers == "never" else free_port())) as collector:
        port = collector.getsockname()[1]
        if answers == "refused":
            collector.close()
        running = daemon(TELEMETRY__OTLP_ENDPOINT=f"http://127.0.0.1:{port}", TELEMETRY__OTLP_INTERVAL="1s")
        if answers == "never":
            until(lambda: connections(port), "the daemon exports")
        delivers()
        assert running.get("/livez").status_code == 200
        ends(running)


def connections(port: int) -> int:
    """How many are established to the port of 127.0.0.1."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[2] == f"0100007F:{port:04X}" and line.split()[3] == "01" for line in lines)


# --- the HTTP port ----------------------------------------------------------------------------------------------


def test_a_port_that_is_in_use(daemon: StartDaemon, delivers: Callable[[], None]) -> None:
    """It is said once, and the port is taken as soon as it is free."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        running = daemon(HTTP__PORT=str(port))
        line = running.wait_for("http.unavailable")
        assert "Address already in use" in line["reason"]
        delivers()
    running.wait_for("http.listening", port=port)
    assert running.get("/readyz").status_code == 200
    assert len(running.events("http.unavailable")) == 1
    ends(running)


def test_a_port_that_stays_in_use_does_not_delay_the_end(daemon: StartDaemon, delivers: Callable[[], None]) -> None:
    """The daemon stops while it still waits for the port."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        running = daemon(HTTP__PORT=str(other.getsockname()[1]))
        delivers()
        ends(running)


def test_clients_that_never_read_or_never_ask(daemon: StartDaemon, delivers: Callable[[], None]) -> None:
    """Fifty of each: they wait for themselves."""
    running = daemon()
    port = running.wait_for("http.listening")["port"]
    with ExitStack() as stack:
        for number in range(100):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            client.setblocking(False)
            if number % 2:
                client.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 500)
        delivers()
        assert running.get("/livez").status_code == 200
        ends(running)


# --- a worker ---------------------------------------------------------------------------------------------------


def test_a_worker_that_fails_for_ever(
    outbox: Database, daemon: StartDaemon, delivers: Callable[[], None], count: Count
) -> None:
    """The mover meets a trigger that fails. The others work on, the log tells of it once, and it recovers."""
    running = daemon(RECOVERY__INTERVAL="100ms", RETRY__INTERVAL="100ms", RECOVERY__STUCK_TIMEOUT="1s")
    running.wait_for("source.started")
    with outbox.connect() as connection, connection.cursor() as cursor:
        broken = "CREATE TRIGGER broken BEFORE INSERT ON outbox_deadletters FOR EACH ROW INSERT INTO missing VALUES (1)"
        cursor.execute(broken)
        insert(connection, Ledger(), "bad", "no/such topic")
        until(lambda: running.metric("outbox_worker_failures_total", worker="dead_letters") >= 5, "it fails and fails")
        others = ("relay", "retry", "recovery", "unknown_status", "retention", "lease")
        assert [running.metric("outbox_worker_failures_total", worker=name) for name in others] == [0] * len(others)
        assert count("status = 3") == 1
        told = running.events("worker.failed")
        assert {line["worker"] for line in told} == {"dead_letters"}
        assert ["exception" in line for line in told] == [True], "one line, not one per turn"
        cursor.execute("DROP TRIGGER broken")
    until(lambda: count(table="outbox_deadletters") == 1, "it has recovered")
    running.wait_for("worker.recovered", worker="dead_letters")
    delivers()
    ends(running)
