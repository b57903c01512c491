"""The real daemon as its own process, and what it says."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx

PATIENCE = 60.0
"""Seconds after which something that should have happened counts as failed."""

MOST_PAUSE = 0.03
"""Seconds between two looks at what takes long: most of them ask the database, which the daemon needs, too."""

LEASE = "20s"
"""Long enough that a machine with something else to do costs neither the lease, nor what the lease bounds: a publish
(half of it), a heartbeat (a quarter), a wait for a lock (an eighth). Tests that wait for its end set a shorter one."""

_http = httpx.Client(timeout=30, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))
"""One for all, as it reads all certificates when it is made; a kept connection may be closed just when it is used."""


def until(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Polls until the condition is true, and returns its value; fails when patience ends."""
    end = time.monotonic() + patience
    pause = 0.01
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {patience:.0f} s: {what}")
        time.sleep(pause)
        pause = min(MOST_PAUSE, pause * 1.1)
    return value


def in_doubt(*daemons: "Daemon") -> int:
    """How often they say that they may have to repeat what was in flight: on a machine that stands still they must."""
    told = ("delivery.paused", "lease.lost", "lease.resumed")
    return sum(len(one.events(event)) for one in daemons for event in told)


class Daemon:
    """`outboxd run`. Settings are environment variables without their prefix: `RETRY__MAX_ATTEMPTS="5"`."""

    def __init__(
        self,
        database_url: str,
        bootstrap: str,
        extra: Mapping[str, str] | None = None,
        *,
        program: Sequence[str] = (sys.executable, "-m", "outboxd"),
        cwd: Path | None = None,
        **settings: str,
    ) -> None:
        self._command = [*program, "run"]
        self._cwd = cwd
        defaults = {"HTTP__PORT": "0", "LEASE__TTL": LEASE, "DEAD_LETTERS__INTERVAL": "100ms", "LOG__FORMAT": "json"}
        given = {"DATABASE_URL": database_url, "KAFKA__BOOTSTRAP_SERVERS": bootstrap} | defaults | settings
        clean = {key: value for key, value in os.environ.items() if not key.startswith("OUTBOXD_")}
        self._environment = clean | {f"OUTBOXD_{key}": value for key, value in given.items()} | dict(extra or {})
        self._lines: list[dict[str, Any]] = []
        self._said = threading.Condition()
        self.stdout: list[str] = []

    def start(self) -> Self:
        """Starts the process."""
        self.process = subprocess.Popen(
            self._command,
            cwd=self._cwd,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._readers = [
            threading.Thread(target=self._listen, args=(self.process.stderr,), daemon=True),
            threading.Thread(target=self._collect, args=(self.process.stdout,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        return self

    def _listen(self, stream: Any) -> None:
        for line in stream:
            try:
                entry = json.loads(line)
            except ValueError:
                entry = {"event": "not json", "line": line.rstrip()}
            with self._said:
                self._lines.append(entry)
                self._said.notify_all()

    def _collect(self, stream: Any) -> None:
        for line in stream:
            self.stdout.append(line)

    @property
    def log(self) -> list[dict[str, Any]]:
        """All lines so far."""
        with self._said:
            return list(self._lines)

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines of one event."""
        return [line for line in self.log if line["event"] == name]

    def wait_for(self, name: str, patience: float = PATIENCE, *, since: int = 0, **fields: Any) -> dict[str, Any]:
        """The first line of this event with these fields, as soon as it is there. `since`: not among so many lines."""

        def find() -> dict[str, Any] | None:
            said = self._lines[since:]
            return next((line for line in said if line["event"] == name and fields.items() <= line.items()), None)

        with self._said:
            found = self._said.wait_for(lambda: find() or self.process.poll() is not None, patience) and find()
        assert found, f"no {name} {fields} within {patience:.0f} s; it said: {self.log[-15:]}"
        return dict(found)

    def get(self, path: str) -> httpx.Response:
        """A page of its HTTP server."""
        port = self.wait_for("http.listening")["port"]
        return _http.get(f"http://127.0.0.1:{port}{path}")

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        total = 0.0
        for line in self.get("/metrics").text.splitlines():
            if line.startswith(name + "{") and all(f'{key}="{value}"' in line for key, value in labels.items()):
                total += float(line.rsplit(" ", 1)[1])
        return total

    def signal(self, number: int) -> None:
        """Sends a signal to the process."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9."""
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self, patience: float = PATIENCE) -> int:
        """Its exit code."""
        code = self.process.wait(patience)
        for reader in self._readers:
            reader.join()
        return code

    def stop(self) -> int:
        """SIGTERM, then its exit code."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGKILL)
        self.wait()
        # pytest shows it when the test fails.
        print(f"daemon {self.process.pid} said:", *self.log[-40:], sep="\n  ")
