"""Logging: one stream, no secrets, and never in the way of the program."""

import json
import logging
import os
import pty
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog

from outboxd.errors import ConfigError
from outboxd.telemetry.logs import LogHandler, configure

LIBRARIES = ("", "outboxd", "aiokafka", "opentelemetry", "sqlalchemy.engine")


class Log:
    """A log file, and logging set up to write to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.handler: LogHandler | None = None

    def configure(self, level: str = "info", style: str = "json") -> LogHandler:
        self.handler = configure(level, style, self.descriptor)
        return self.handler

    def text(self) -> str:
        if self.handler:
            self.handler.flush()
        return self.path.read_text()

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    levels = {name: logging.getLogger(name).level for name in LIBRARIES}
    log = Log(tmp_path / "log")
    yield log
    os.close(log.descriptor)
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if not isinstance(handler, LogHandler)]
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(False)
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()


def test_a_json_line_says_when_how_bad_who_and_what(log: Log) -> None:
    """A line is one JSON object with the time in UTC, the level, the logger, the event, its values and the context."""
    log.configure()
    with structlog.contextvars.bound_contextvars(source="orders"):
        structlog.get_logger("outboxd.workers.relay").warning("delivery paused", cause="outage", lanes=[1, 2])
    [line] = log.lines()
    written = datetime.fromisoformat(str(line.pop("timestamp")))
    assert abs(datetime.now(UTC) - written) < timedelta(minutes=1)
    assert line == {
        "level": "warning",
        "logger": "outboxd.workers.relay",
        "event": "delivery paused",
        "source": "orders",
        "cause": "outage",
        "lanes": [1, 2],
    }


def test_the_level_decides_what_is_written(log: Log) -> None:
    """Lines below the level are left out, those at it are written."""
    log.configure("warning")
    logger = structlog.get_logger("outboxd")
    logger.info("no")
    logger.warning("yes")
    assert [line["event"] for line in log.lines()] == ["yes"]


def test_configuring_again_replaces_the_first_time(log: Log) -> None:
    """After a second call each line is written once, in the second format."""
    log.configure("info", "console")
    log.configure("info", "json")
    structlog.get_logger("outboxd").info("once")
    assert [line["event"] for line in log.lines()] == ["once"]


def test_library_warnings_are_in_the_same_stream(log: Log) -> None:
    """What libraries say through the standard library, exceptions included, has the same form."""
    log.configure()
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        logging.getLogger("asyncio").exception("task failed in %s", "relay")
    [line] = log.lines()
    assert (line["event"], line["level"], line["logger"]) == ("task failed in relay", "error", "asyncio")
    assert str(line["exception"]).endswith("RuntimeError: boom")


def test_a_kafka_outage_does_not_flood_the_log(log: Log) -> None:
    """aiokafka's line per connection attempt is written at level debug only."""
    log.configure("info")
    logging.getLogger("aiokafka.conn").error("Unable to connect to node 1")
    assert log.lines() == []
    log.configure("debug")
    logging.getLogger("aiokafka.conn").error("Unable to connect to node 1")
    assert len(log.lines()) == 1


def test_sqlalchemy_never_logs_rows(log: Log) -> None:
    """Also at level debug, SQLAlchemy's own debug lines, which hold rows, stay off."""
    log.configure("debug")
    assert not logging.getLogger("sqlalchemy.engine.Engine").isEnabledFor(logging.INFO)


@pytest.mark.parametrize("key", ["payload", "password", "sasl_plain_password", "url", "database_url", "headers"])
@pytest.mark.parametrize("style", ["json", "console"])
def test_private_keys_are_redacted(log: Log, key: str, style: str) -> None:
    """A value under a private key is not written, at the top or inside another value."""
    log.configure("info", style)
    structlog.get_logger("outboxd").info("x", **{key: "hunter2", "nested": {"list": [{key: "hunter2"}]}})
    assert "hunter2" not in log.text()
    assert log.text().count("[redacted]") == 2


@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.parametrize("password", ["hunter2", "p@ss/hunter2", "it's:hunter2", '"hunter2"'])
def test_credentials_in_urls_are_masked_everywhere(log: Log, style: str, password: str) -> None:
    """A URL loses its credentials in the event, in values, in exceptions as values, and in tracebacks."""
    log.configure("info", style)
    text = f"cannot reach mysql+pymysql://app:{password}@db:3306/shop"
    try:
        raise ConnectionError(text)
    except ConnectionError as error:
        structlog.get_logger("outboxd").exception(text, detail=text, error=error, errors=[error])
    assert "hunter2" not in log.text()
    assert log.text().count("://***@db:3306/shop") == 5


def test_tracebacks_hold_no_local_variables_and_no_sql_parameters(log: Log) -> None:
    """What a function had in hand when it failed, and the values of a failed statement, are not written."""
    log.configure()
    payload = "-".join(["hunter", "2"])
    try:
        raise RuntimeError(f"(1205) timeout\n[SQL: INSERT ...]\n[parameters: ({payload!r}, 7)]\n(Background ...)")
    except RuntimeError:
        structlog.get_logger("outboxd").exception("settle failed")
    assert "hunter-2" not in log.text()
    [line] = log.lines()
    assert "[SQL: INSERT ...]\n[parameters: [redacted]]\n(Background ...)" in str(line["exception"])


def test_any_text_can_be_written(log: Log) -> None:
    """A lone surrogate, as a broken header may hold it, does not cost the line."""
    handler = log.configure("info", "console")
    structlog.get_logger("outboxd").info("odd", text="a\udc80b")
    assert handler.lost == 0
    assert "odd" in log.text()


@pytest.mark.parametrize(
    ("level", "style", "key"), [("loud", "json", "log.level"), ("info", "xml", "log.format")], ids=["level", "style"]
)
def test_unknown_settings_are_refused_by_their_key(log: Log, level: str, style: str, key: str) -> None:
    """A level or format that does not exist is refused with its key and the choice there is."""
    with pytest.raises(ConfigError, match=rf"^{key}: expected one of \w+, "):
        log.configure(level, style)


PROGRAM = textwrap.dedent(
    """
    import logging, socket, sys
    import structlog
    from outboxd.telemetry.logs import configure

    handler = configure("info", "console")
    ours, theirs = socket.socketpair()  # where standard error is closed, one of them gets its number
    for number in range(3):
        structlog.get_logger("outboxd").info("line", number=number)
    logging.getLogger("asyncio").error("another")
    for end in (ours, theirs):
        end.setblocking(False)
        try:
            print("leaked", end.recv(100))
        except BlockingIOError:
            pass
    handler.flush()
    print("lost", handler.lost)
    """
)


def run(redirect: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", "-c", f'exec "$0" -c "$1" {redirect}', sys.executable, PROGRAM]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=30, check=False)


@pytest.mark.parametrize("redirect", ["2>/dev/full", "2>&-"], ids=["full disk", "closed"])
def test_a_log_that_cannot_be_written_is_counted_and_the_program_goes_on(redirect: str) -> None:
    """With a full disk or without standard error the program runs to its end, exits 0, and knows what was lost."""
    done = run(redirect)
    assert (done.returncode, done.stdout) == (0, "lost 4\n")


def test_a_log_whose_reader_has_gone_is_counted_and_the_program_goes_on() -> None:
    """A pipe without a reader neither kills nor stops the program."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=writer, text=True, timeout=30, check=False)
    os.close(writer)
    assert (done.returncode, done.stdout) == (0, "lost 4\n")


STALLED = textwrap.dedent(
    """
    import time
    import structlog
    from outboxd.telemetry.logs import QUEUE, configure

    handler = configure("info", "json")
    began = time.monotonic()
    for number in range(2 * QUEUE):
        structlog.get_logger("outboxd").info("line", number=number, text="x" * 500)
    print("patient", time.monotonic() - began < 5)
    print("lost", handler.lost >= QUEUE / 2)
    """
)


def test_a_log_whose_reader_sleeps_stops_nobody() -> None:
    """A pipe that is full takes no more: lines wait, then are counted; and the program ends."""
    reader, writer = os.pipe()
    command = [sys.executable, "-c", STALLED]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=writer, text=True, timeout=30, check=False)
    os.close(writer)
    os.close(reader)
    assert (done.returncode, done.stdout) == (0, "patient True\nlost True\n")


def test_logs_go_to_standard_error() -> None:
    """Standard output stays free for the stdout sink."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == "lost 0\n"
    assert len(done.stderr.splitlines()) == 4


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Our end of a terminal, and the program's."""
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(theirs)
    os.close(ours)


@pytest.mark.parametrize("style", ["console", "auto"])
def test_a_terminal_gets_coloured_lines(log: Log, terminal: tuple[int, int], style: str) -> None:
    """On a terminal the formats console and auto write lines for people, in colour."""
    ours, theirs = terminal
    configure("info", style, theirs)
    structlog.get_logger("outboxd").info("to be seen")
    assert b"\x1b[" in os.read(ours, 1000)


def test_no_colours_where_they_are_not_wanted(
    log: Log, terminal: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """NO_COLOR turns colours off on a terminal; a file never has them."""
    ours, theirs = terminal
    monkeypatch.setenv("NO_COLOR", "1")
    configure("info", "console", theirs)
    structlog.get_logger("outboxd").info("plain")
    assert b"\x1b[" not in os.read(ours, 1000)
    log.configure("info", "console")
    structlog.get_logger("outboxd").info("plain")
    assert "plain" in log.text()
    assert "\x1b" not in log.text()


def test_what_is_no_terminal_gets_json(log: Log) -> None:
    """In a file or a pipe the format auto writes JSON."""
    log.configure("info", "auto")
    structlog.get_logger("outboxd").info("x")
    assert [line["event"] for line in log.lines()] == ["x"]
