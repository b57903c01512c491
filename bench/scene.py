"""What a measurement works with: the servers, the daemon's settings, and how much of everything is asked for."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Final

from bench.backlog import migrated_database
from bench.program import BELL, BareLoop, Outboxd, Program, Usage, cpu_seconds
from tests.servers.kafka import Kafka
from tests.servers.sql import SqlServer

CALM: Final = 0.05
"""Share of a core that the database may use to count as calm."""
LONGEST_CALM: Final = 20.0
"""Seconds; then it is measured all the same."""

_serial = count(1)


def fewer(rounds: int) -> int:
    """For measurements with many variants."""
    return max(1, rounds - 1)


@dataclass
class Scene:
    """One database server and one broker. `scale` is a factor on events and seconds."""

    server: SqlServer
    kafka: Kafka
    folder: Path
    settings: Sequence[str] = ()
    scale: float = 1.0
    rounds: int = 3
    sent_rows: int = 10_000_000
    peers: bool = True
    tell: Callable[[str], None] = print
    starts: dict[str, Usage] = field(default_factory=dict)
    """What a program uses to start and stop, by its name, once that was measured."""
    sustained: int | None = None
    """The highest rate that the daemon keeps up with, once that was measured; 0: there is none."""

    def events(self, number: int, least: int = 200) -> int:
        """`number`, scaled."""
        return max(least, round(number * self.scale))

    def seconds(self, number: float, least: float = 1.0) -> float:
        """`number`, scaled."""
        return max(least, number * self.scale)

    @property
    def fewer_rounds(self) -> int:
        """For measurements with many variants."""
        return fewer(self.rounds)

    def log(self, program: Program | str) -> Path:
        """A new file for a program's output."""
        name = program if isinstance(program, str) else program.name
        return self.folder / f"{self.server.product}-{name}-{next(_serial)}.log".replace(" ", "-")

    def outboxd(self, *settings: str) -> Outboxd:
        """The daemon, with the settings of the command line and these."""
        return Outboxd([*self.settings, *settings])

    def wait_until_calm(self) -> None:
        """Until the database has written back and purged what was written before."""
        deadline = time.monotonic() + LONGEST_CALM
        used = cpu_seconds(self.server.pid)
        while time.monotonic() < deadline:
            time.sleep(1.0)
            now = cpu_seconds(self.server.pid)
            if now - used < CALM:
                return
            used = now
        self.tell(f"{self.server.name} was not calm within {LONGEST_CALM:.0f} s")

    @property
    def bare_loop(self) -> BareLoop:
        """The limit."""
        return BareLoop()

    @cached_property
    def bell(self) -> str:
        """Empty when a daemon with the doorbell starts, else why it is left out."""
        command = [sys.executable, "-m", "outboxd", "config", "check"]
        for setting in (f"database.url={self.server.url('x')}", "kafka.bootstrap_servers=127.0.0.1:9092", BELL):
            command += ["--set", setting]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return f"this daemon does not take {BELL}"
        try:
            with migrated_database(self.server) as database:
                self.outboxd(BELL).start_usage(self.server.url(database), self.kafka.bootstrap, self.log("bell"))
        except RuntimeError as error:
            return f"a daemon with {BELL} does not start: {str(error).splitlines()[-1]}"
        return ""
