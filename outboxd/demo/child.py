"""A process of the demo: out of reach of Ctrl-C, with a log, and gone when the demo is."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from outboxd.errors import OutboxdError

T = TypeVar("T")

PYTHON: Final = (sys.executable, "-P", "-m")
"""Runs a module of ours; the folder that the user stands in is none of its business."""
LOOK: Final = 0.02
"""Seconds between two looks whether something is ready."""
TAIL: Final = 12
"""Lines of a log that are shown."""


class BrokenError(OutboxdError):
    """A part of the demo does not work; `tail` is the end of its log."""

    def __init__(self, text: str, tail: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.tail = list(tail)


class Child:
    """Starts the command at once. `name` is what errors call it."""

    def __init__(self, name: str, command: Sequence[str], log: Path, environ: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(  # noqa: S603 - the command is ours
                [*PYTHON, "outboxd.demo.leash", str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environ,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def lines(self) -> list[str]:
        """Its log so far, without a last line that is not complete."""
        return [line.rstrip("\n") for line in self._text().splitlines(keepends=True) if line.endswith("\n")]

    @property
    def tail(self) -> list[str]:
        """The end of its log."""
        return self._text().splitlines()[-TAIL:]

    def check(self) -> None:
        """Raises BrokenError when it has ended."""
        code = self._process.poll()
        if code is not None:
            raise BrokenError(f"{self.name} ended by itself, with exit code {code}", self.tail)

    def wait_for(self, probe: Callable[[], T | None], timeout: float) -> T:
        """What `probe` returns once that is not None. Raises BrokenError when it ends, or after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while (found := probe()) is None:
            self.check()
            if time.monotonic() > deadline:
                raise BrokenError(f"{self.name} was not ready after {timeout:.0f} s", self.tail)
            time.sleep(LOOK)
        return found

    def finish(self, timeout: float) -> int:
        """Waits until it ends by itself; its exit code. Raises BrokenError after `timeout` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise BrokenError(f"{self.name} did not end within {timeout:.0f} s", self.tail) from None

    def stop(self, grace: float) -> int:
        """SIGTERM, and after `grace` seconds SIGKILL, to it and what it started. Its exit code."""
        if self._process.poll() is not None:
            return self._process.returncode
        if grace:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                return self._process.wait(grace)
        os.killpg(self._process.pid, signal.SIGKILL)
        return self._process.wait()

    def _text(self) -> str:
        return self._log.read_text(errors="replace")
