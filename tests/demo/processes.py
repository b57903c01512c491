"""`outboxd demo` as a process, and what it starts."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class Living(NamedTuple):
    """A process; its start tells it from a later one of the same number."""

    pid: int
    started: str


def _stat(pid: int) -> tuple[int, Living] | None:
    """Its parent, and itself; None when it is gone, or only waits to be buried."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else (int(fields[1]), Living(pid, fields[19]))


def descendants(pid: int) -> set[Living]:
    """All processes below this one."""
    children: dict[int, list[Living]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (found := _stat(int(folder.name))):
            children.setdefault(found[0], []).append(found[1])
    family, young = set[Living](), [pid]
    while young:
        for child in children.get(young.pop(), []):
            family.add(child)
            young.append(child.pid)
    return family


def alive(processes: set[Living]) -> set[Living]:
    """Those that still are."""
    return {process for process in processes if (found := _stat(process.pid)) and found[1] == process}


class Demo:
    """The command, in a process group of its own, as a terminal would start it; its folder is made under `tmp`."""

    def __init__(self, tmp: Path, *arguments: str, environ: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "outboxd", "demo", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(tmp), **(environ or {})},
            start_new_session=True,
        )
        self.seen: list[str] = []

    @property
    def pid(self) -> int:
        """Its process id, and that of its group."""
        return self._process.pid

    def read_until(self, part: str) -> str:
        """The first line of stdout that has `part`."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.seen.append(line)
            if part in line:
                return line
        raise AssertionError(f"it ended before {part!r} came: {self.seen}\n{self.end()}")

    def end(self) -> tuple[int, str, str]:
        """Waits; its exit code, and the rest of stdout and stderr."""
        out, err = self._process.communicate(timeout=300)
        return self._process.returncode, out, err


def demo(tmp: Path, *arguments: str, environ: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Runs it to its end: exit code, stdout, stderr."""
    return Demo(tmp, *arguments, environ=environ).end()
