"""`outboxd demo`, as a user runs it: real servers, the real daemon, real signals."""

import json
import os
import shlex
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from confluent_kafka.admin import AdminClient

from outboxd.cli import main
from outboxd.demo import database as demo_database
from tests.conftest import Database
from tests.demo.processes import Demo, Living, alive, demo, descendants
from tests.servers.kafka import Kafka
from tests.servers.mysql import MySQL

SHORT = ("--events", "600", "--aggregates", "20", "--rate", "0")
LONG = ("--events", "100000", "--rate", "500")
DEAD = {"bad_headers": 3, "invalid_topic": 3, "message_too_large": 3}


def expect(found: dict[str, object], events: int) -> None:
    """All is accounted for. A duplicate would need a crash, and there was none."""
    faults = {key: found[key] for key in ("missing", "out_of_order", "changed", "rolled_back_delivered", "duplicates")}
    assert not any(faults.values()), found
    assert (found["ok"], found["committed"], found["delivered"]) == (True, events, events - 9)
    assert found["dead_letters"] == DEAD
    latency = found["latency_ms"]
    assert isinstance(latency, dict)
    assert 0 < latency["p50"] <= latency["p99"]


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether it comes true within a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.usefixtures("mariadb")
def test_everything_arrives(tmp: Path) -> None:
    """With servers of its own, and as many events as by default: exit code 0, the numbers as JSON."""
    code, out, err = demo(tmp, "--json")
    assert code == 0, err
    found = json.loads(out)
    expect(found, 5_000)
    assert found["rolled_back"] > 0
    assert found["seconds"] > 0
    assert "private MariaDB" in err
    assert not list(tmp.iterdir())


@pytest.mark.usefixtures("mariadb")
def test_the_table(tmp: Path) -> None:
    """Without a terminal: a line for each step and each number, no escape sequences, no payloads."""
    code, out, err = demo(tmp, *SHORT)
    assert (code, err) == (0, "")
    numbers = dict(
        line.rsplit(maxsplit=1) for line in (line[:30].strip() for line in out.splitlines()) if line[-1:].isdigit()
    )
    assert numbers["committed"] == "600"
    assert numbers["delivered"] == "591"
    assert numbers["missing"] == numbers["out of order"] == numbers["rolled back, delivered"] == "0"
    assert numbers["dead letters"] == "9"
    assert {reason: int(numbers[reason]) for reason in DEAD} == DEAD
    assert "latency p99" in out
    assert out.endswith("Every committed event arrived, in order, or is a dead letter with its reason.\n")
    assert "\x1b" not in out


def test_mysql_does_as_well(tmp: Path, mysql: MySQL) -> None:
    """A mysqld is good enough where there is no mariadbd. This one comes with its own C library, so: a script."""
    program = tmp / "mysqld"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(map(str, mysql._program[:4]))} "$@"\n')
    program.chmod(0o755)
    code, out, err = demo(tmp, *SHORT, "--server", str(program), "--json")
    assert code == 0, err
    expect(json.loads(out), 600)
    assert "private MySQL 9" in err


@pytest.mark.parametrize("database_server", ["mysql"], indirect=True)
def test_servers_of_ones_own(tmp: Path, database: Database, kafka: Kafka) -> None:
    """Tables and topic are the demo's own, and gone afterwards; what is there, or configured, is left alone."""
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE outbox_events (mine INT)")
        cursor.execute("INSERT INTO outbox_events VALUES (42)")
    configured = {"OUTBOXD_TABLES__EVENTS": "outbox_events", "OUTBOXD_DATABASE_URL": "mysql://root@127.0.0.1:1/no"}
    arguments = ("--database-url", database.url, "--kafka", kafka.bootstrap, *SHORT, "--json")
    code, out, err = demo(tmp, *arguments, environ=configured)
    assert code == 0, err
    expect(json.loads(out), 600)
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SHOW TABLES")
        assert cursor.fetchall() == (("outbox_events",),)
        cursor.execute("SELECT * FROM outbox_events")
        assert cursor.fetchall() == ((42,),)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    assert eventually(lambda: not any(name.startswith("demo-") for name in admin.list_topics(timeout=10).topics))


@pytest.mark.usefixtures("mariadb")
@pytest.mark.parametrize(
    ("moment", "sent"),
    [
        ("embedded Kafka", signal.SIGINT),
        ("embedded Kafka", signal.SIGHUP),
        ("is ready", signal.SIGTERM),
    ],
)
def test_it_can_be_broken_off(tmp: Path, moment: str, sent: signal.Signals) -> None:
    """Ctrl-C, as a terminal sends it to the group, while tables are made or while events flow: nothing is left."""
    running = Demo(tmp, *LONG)
    running.read_until(moment)
    family = descendants(running.pid)
    assert len(family) >= 2
    os.killpg(running.pid, sent)
    code, out, _ = running.end()
    assert code == 130
    assert "cleaned up" in out
    assert not alive(family)
    assert not list(tmp.iterdir())


@pytest.mark.usefixtures("mariadb")
def test_a_second_signal_does_not_disturb_the_clean_up(tmp: Path) -> None:
    """An impatient user presses Ctrl-C again and again, while events flow."""
    running = Demo(tmp, *LONG)
    running.read_until("is ready")
    family = descendants(running.pid)
    while alive(family):
        os.killpg(running.pid, signal.SIGINT)
        time.sleep(0.01)
    assert running.end()[0] == 130
    assert not list(tmp.iterdir())


@pytest.mark.usefixtures("mariadb")
def test_kill_9_takes_its_processes_along(tmp: Path) -> None:
    """The folder cannot be helped; the processes end."""
    running = Demo(tmp, *LONG)
    running.read_until("is ready")
    family = descendants(running.pid)
    os.kill(running.pid, signal.SIGKILL)
    running.end()
    assert eventually(lambda: not alive(family))


@pytest.mark.usefixtures("mariadb")
def test_a_daemon_that_dies_is_shown(tmp: Path) -> None:
    """Exit code 1, one line that says what ended, and the end of its log; and all is cleaned up."""
    running = Demo(tmp, *LONG)
    pid = int(running.read_until("is ready").partition("process ")[2].partition(" ")[0].strip(","))
    family: set[Living] = descendants(running.pid)
    os.kill(pid, signal.SIGKILL)
    code, out, err = running.end()
    assert (code, err) == (1, "outboxd: `outboxd run` ended by itself, with exit code -9\n")
    assert "daemon.starting" in out
    assert not alive(family)
    assert not list(tmp.iterdir())


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["--events", "0"], 2, "100<=x"),
        (
            ["--database-url", "postgres://me:secret@host/shop"],
            2,
            "outboxd: database.url: the URL is of another kind (in --database-url)",
        ),
        (["--kafka", "nowhere"], 2, "outboxd: kafka.bootstrap_servers: "),
        (["--server", "no-such-mysqld"], 1, "outboxd: --server: there is no such program"),
        (["--database-url", "mysql://me:secret@127.0.0.1:1/shop"], 1, "outboxd: `outboxd migrate` failed: "),
    ],
)
def test_what_cannot_work_is_said_in_a_line(tmp: Path, arguments: list[str], code: int, line: str) -> None:
    """Usage errors have exit code 2, and nothing was started; no text holds a password."""
    found, out, err = demo(tmp, *arguments)
    assert found == code
    assert line in err
    assert "secret" not in out + err
    assert not list(tmp.iterdir())


def test_without_a_database_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where none is installed and nobody can be asked, nothing is installed: a sentence with the cure."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(demo_database, "PLACES", [])
    found = CliRunner().invoke(main, ["demo"])
    assert found.exit_code == 1
    assert "neither mariadbd nor mysqld is installed; install MariaDB" in found.output
    assert "--database-url" in found.output
