"""A private server: a process of its own, with its data in a temporary folder, that ends with the test run."""

import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

# The kernel kills a child when the *thread* that started it ends. This one lives as long as the whole test run does,
# so that a server may also be restarted from a short-lived thread.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="servers")


_given: set[int] = set()
_claims = (Path(tempfile.gettempdir()) / f"outboxd-ports-{os.getuid()}").open("wb")


def free_port() -> int:
    """A free TCP port of 127.0.0.1, below those that the kernel gives to outgoing connections. No other call gives it,
    in this process or another, until this one ends: a server takes seconds until it listens.

    While a server is down, a client that keeps dialling a port of that range sooner or later connects to itself, and
    the server cannot come back.
    """
    while True:
        port = random.randrange(15_000, 32_000)
        if not _claim(port):
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def _claim(port: int) -> bool:
    """Whether nobody has it: each process locks the bytes of its ports in a file that all know."""
    if port in _given:
        return False
    try:
        fcntl.lockf(_claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    _given.add(port)
    return True


def _spawn(command: Sequence[str | Path], log: Path, cwd: Path) -> subprocess.Popen[bytes]:
    setpriv = shutil.which("setpriv")
    tied = [setpriv, "--pdeathsig", "KILL", *command] if setpriv else list(command)
    with log.open("ab") as out:
        return subprocess.Popen(
            tied, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )


class Server(ABC):
    """Start, stop and crash one server process. As a context manager it starts, and is gone with its data after."""

    name: ClassVar[str]
    start_timeout: ClassVar[float] = 180.0
    stop_timeout: ClassVar[float] = 60.0

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"outboxd-{self.name.lower().replace(' ', '-')}-"))
        self.log = self.folder / "server.log"
        self.start_seconds = 0.0
        """How long the last start took."""
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def _command(self) -> Sequence[str | Path]:
        """The program and its arguments."""

    @abstractmethod
    def _prepare(self) -> None:
        """Makes the data folder, before the first start."""

    @abstractmethod
    def _ready(self) -> bool:
        """Whether it serves. Asked again and again while it starts."""

    @property
    @abstractmethod
    def version(self) -> str:
        """As the running server tells it."""

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if self._process is None:
            raise RuntimeError(f"{self.name} is not running")
        return self._process.pid

    def start(self) -> None:
        """Starts it with the data it has, and returns once it serves. Nothing to do when it runs."""
        if self.running:
            return
        began = time.monotonic()
        data = self.folder / "prepared"
        if not data.exists():
            self._prepare()
            data.touch()
        self._process = _starter.submit(_spawn, self._command(), self.log, self.folder).result()
        self._wait_until_ready(time.monotonic() + self.start_timeout)
        self.start_seconds = time.monotonic() - began

    def stop(self) -> None:
        """Stops it in good order; its data stay."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9; its data stay."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stops and starts it: same port, same data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: its connections stay open, and nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Ends it and deletes its data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wait_until_ready(self, deadline: float) -> None:
        # In this order: who answers in the place of a server that has ended is another one.
        while not (self._ready() and self.running):
            if not self.running or time.monotonic() > deadline:
                self.kill()
                tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
                raise RuntimeError(f"{self.name} did not start. The end of its log:\n{tail}")
            time.sleep(0.02)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(self.stop_timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise RuntimeError(f"{self.name} ignored {how.name} for {self.stop_timeout:.0f} s and was killed") from None
