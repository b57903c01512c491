"""What the threads of a process do: by the kernel's own accounts, and by py-spy, which looks at them from outside."""

import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Self

RATE: Final = 200
"""Looks per second."""

_ROOT: Final = re.compile(r"thread \((\d+)\): (.+)")


class Account(NamedTuple):
    """Of a thread so far: seconds on a processor, seconds in which it waited for one, and how often it slept."""

    cpu: float
    waited: float
    sleeps: float

    def __sub__(self, before: "Account") -> "Account":
        return Account(self.cpu - before.cpu, self.waited - before.waited, self.sleeps - before.sleeps)


def accounts(pid: int) -> dict[int, Account]:
    """By thread; see `sched-stats` in the kernel's documentation."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        cpu, waited, _ = (task / "schedstat").read_text().split()
        sleeps = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", (task / "status").read_text(), re.MULTILINE)
        found[int(task.name)] = Account(int(cpu) / 1e9, int(waited) / 1e9, float(sleeps[1]) if sleeps else 0.0)
    return found


def total(threads: Mapping[int, Account]) -> Account:
    """Of a process."""
    return Account(*(sum(values) for values in zip(*threads.values(), strict=True)))


@dataclass(frozen=True)
class Samples:
    """What py-spy saw of threads that run, or could run: their names, and how often it met each function on top."""

    names: dict[int, str]
    tops: dict[str, Counter[str]]
    """By the name of the thread: the function and its file, and how many looks met it."""

    @classmethod
    def of(cls, raw: str) -> Self:
        """From its raw format: a line for each stack, outermost first, and how often it was met."""
        names: dict[int, str] = {}
        tops: dict[str, Counter[str]] = {}
        for line in raw.splitlines():
            stack, _, times = line.rpartition(" ")
            frames = stack.split(";")
            root = _ROOT.fullmatch(frames[0])
            if root is None or len(frames) == 1:
                continue
            names[int(root[1])] = root[2]
            function = re.sub(r":\d+\)$", ")", frames[-1])
            tops.setdefault(root[2], Counter())[function] += int(times)
        return cls(names, tops)


def find() -> str | None:
    """The command, if it is installed."""
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.exists() else shutil.which("py-spy")


def sample(pid: int, seconds: int, out: Path) -> Samples:
    """Looks for so many seconds, without stopping the process. Raises CalledProcessError."""
    command = [find() or "py-spy", "record", "--pid", str(pid), "--duration", str(seconds), "--rate", str(RATE)]
    command += ["--format", "raw", "--output", str(out), "--nonblocking", "--threads"]
    subprocess.run(command, check=True, capture_output=True)
    return Samples.of(out.read_text())
