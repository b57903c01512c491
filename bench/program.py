"""The programs that are measured, each as a process of its own, and what such a process costs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, NamedTuple, Protocol, Self

import httpx

from bench.bare_loop import BATCH_SIZE, READY
from tests.servers.server import free_port

TIMEOUT: Final = 60.0
"""Seconds for a program's start, and for its end."""

WATCH_INTERVAL: Final = 0.02
LANES: Final = "lease.lanes"
"""What the daemon logs when it may deliver."""
BELL: Final = "doorbell.kind=binlog"
"""The setting that has the daemon woken by the database's binary log."""
RINGING: Final = "doorbell.ringing"
SILENT: Final = ("doorbell.lost", "doorbell.deaf")
"""What it logs when it is, and when it is no longer."""


class Usage(NamedTuple):
    """What a process has used: seconds of CPU in all its threads, and the most memory it had, in bytes."""

    cpu_seconds: float
    peak_rss: int


def cpu_seconds(pid: int) -> float:
    """The CPU that a running process has used in all its threads, to a hundredth of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Process:
    """A child whose resources are accounted for. As a context manager it does not outlive the block."""

    settles: ClassVar[bool] = True
    """Whether it marks what it has delivered; else only the topic tells."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._command = command
        self._log = log
        self._peak_rss = 0
        # An installed outboxd has its bytecode; a checkout's is written at the first start, which does not count.
        left = ("OUTBOXD_", "PYTHONDONTWRITEBYTECODE")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(left)}
        self.started_at = time.time()
        with log.open("wb") as out:
            self._process = subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT)

    def __str__(self) -> str:
        return f"{' '.join(self._command[2:4])} (its output: {self._log})"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def cpu_seconds(self) -> float:
        """What it has used so far."""
        return cpu_seconds(self.pid)

    @property
    def peak_rss(self) -> int:
        """The most memory that it had so far, in bytes. Raises RuntimeError when it no longer runs."""
        self.check()
        return self._peak_rss

    def check(self) -> None:
        """Notes its memory. Raises RuntimeError with the end of its output when it no longer runs."""
        if self._process.poll() is not None:
            raise self._failure("has ended")
        self._note_peak_rss()

    def until(
        self, reached: Callable[[], object], what: str, timeout: float = TIMEOUT, interval: float = WATCH_INTERVAL
    ) -> None:
        """Waits as long as it runs. Raises RuntimeError, and ends it."""
        deadline = time.monotonic() + timeout
        while not reached():
            self.check()
            if time.monotonic() > deadline:
                self.kill()
                raise self._failure(f"has not within {timeout:.0f} s: {what}")
            time.sleep(interval)

    def kill(self) -> None:
        """Ends it at once, if it still runs."""
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> Usage:
        """Tells it to end, and waits for it. Raises RuntimeError when its doorbell had fallen silent."""
        self.check()
        said = self._log.read_text(errors="replace")
        if any(event in said for event in SILENT):
            raise self._failure("was not woken all the time")
        self._process.terminate()
        return self.wait()

    def wait(self) -> Usage:
        """Waits until it has ended. Raises RuntimeError when it failed."""
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            self._note_peak_rss()
            pid, status, used = os.wait4(self._process.pid, os.WNOHANG)
            if pid:
                self._process.returncode = os.waitstatus_to_exitcode(status)
                if self._process.returncode not in {0, -signal.SIGTERM}:
                    raise self._failure("failed")
                return Usage(used.ru_utime + used.ru_stime, self._peak_rss)
            time.sleep(0.005)
        raise self._failure(f"did not end within {TIMEOUT:.0f} s")

    def _note_peak_rss(self) -> None:
        # Not ru_maxrss: a child's is never less than what its parent had when it started the child.
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                self._peak_rss = int(line.split()[1]) * 1024

    def _failure(self, what: str) -> RuntimeError:
        tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])
        return RuntimeError(f"{self._process.args!r} {what} (code {self._process.returncode}):\n{tail}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


class Program(Protocol):
    """Something that drains an outbox."""

    @property
    def name(self) -> str:
        """As the tables call it."""

    def start(self, database_url: str, kafka: str, log: Path) -> Process:
        """Begins to drain; runs until it is stopped. Its output goes to the file `log`."""

    def start_ready(self, database_url: str, kafka: str, log: Path) -> Process:
        """Starts it, and returns when it is ready to deliver."""

    def start_usage(self, database_url: str, kafka: str, log: Path) -> Usage:
        """What it uses to start, and to stop once it is ready, with nothing to do."""


@dataclass(frozen=True)
class BareLoop:
    """`bench/bare_loop.py`."""

    batch_size: int = BATCH_SIZE
    name: str = "bare loop"

    def start(self, database_url: str, kafka: str, log: Path) -> Process:
        """See `Program`."""
        return Process(self._command(database_url, kafka), log)

    def start_ready(self, database_url: str, kafka: str, log: Path) -> Process:
        """See `Program`."""
        process = self.start(database_url, kafka, log)
        process.until(lambda: READY in log.read_text().splitlines(), "connected")
        return process

    def start_usage(self, database_url: str, kafka: str, log: Path) -> Usage:
        """See `Program`."""
        with Process([*self._command(database_url, kafka), "--until-empty"], log) as process:
            return process.wait()

    def _command(self, database_url: str, kafka: str) -> list[str]:
        command = [sys.executable, "-m", "bench.bare_loop", "--database-url", database_url, "--kafka", kafka]
        return [*command, "--batch-size", str(self.batch_size)]


@dataclass(frozen=True)
class Outboxd:
    """`outboxd run`, with default settings apart from `settings` (KEY=VALUE)."""

    settings: Sequence[str] = ()
    name: str = "outboxd"
    driver: str = "mysql+pymysql"

    def start(self, database_url: str, kafka: str, log: Path) -> Process:
        """See `Program`."""
        return self._start(database_url, kafka, log, 0)

    def start_usage(self, database_url: str, kafka: str, log: Path) -> Usage:
        """See `Program`."""
        with self.start_ready(database_url, kafka, log) as process:
            return process.stop()

    def start_ready(self, database_url: str, kafka: str, log: Path) -> Process:
        """See `Program`."""
        port = free_port()
        process = self._start(database_url, kafka, log, port)
        # The log costs it nothing, and a drain is not asked for its health either: one question, at the end.
        process.until(lambda: LANES in log.read_text(), "has lanes")
        if BELL in self.settings:
            process.until(lambda: RINGING in log.read_text(), "its doorbell rings")
        process.until(lambda: _is_ready(port), "ready")
        return process

    def _start(self, database_url: str, kafka: str, log: Path, port: int) -> Process:
        url = database_url.replace("mysql+pymysql", self.driver)
        command = [sys.executable, "-m", "outboxd", "run", "--database-url", url, "--kafka", kafka]
        for setting in (f"http.port={port}", *self.settings):
            command += ["--set", setting]
        return Process(command, log)


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2).is_success
    except httpx.TransportError:
        return False
