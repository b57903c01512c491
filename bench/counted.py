"""`python -m bench.counted RESULT MODULE ...`: runs a program, and counts what its Python does.

To `RESULT` it writes, as JSON, how often functions were called (by the package that they are of; those written in C
are counted for their caller), how many requests went to the broker, and how much was alive when one of them left: all
of a batch is in memory then. None of this depends on how fast the machine is.
"""

import json
import runpy
import sys
import threading
import tracemalloc
from collections import defaultdict
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

from aiokafka.conn import AIOKafkaConnection


class Tally:
    """What a process has done so far. The counters are of C, so that no thread comes between two steps of one."""

    def __init__(self) -> None:
        self._calls: defaultdict[str, count[int]] = defaultdict(count)
        """By the file of the code."""
        self._request = AIOKafkaConnection.send.__code__
        self.requests = 0
        self.blocks = 0
        """The most that the allocator had given away when a request left."""
        self.bytes = 0
        """The same in bytes, of what came after the first request."""

    def start(self) -> None:
        """Counts from now on, in this thread and in those to come."""
        threading.setprofile(self._note)
        sys.setprofile(self._note)

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        if event not in {"call", "c_call"}:
            return
        next(self._calls[frame.f_code.co_filename])
        if event == "call" and frame.f_code is self._request:
            self._look()

    def _look(self) -> None:
        self.requests += 1
        self.blocks = max(self.blocks, sys.getallocatedblocks())
        if tracemalloc.is_tracing():
            self.bytes = max(self.bytes, tracemalloc.get_traced_memory()[0])
        else:
            tracemalloc.start()  # not before: while modules are imported it takes seconds

    def stop(self) -> dict[str, Any]:
        """What was counted."""
        sys.setprofile(None)
        threading.setprofile(None)
        calls: defaultdict[str, int] = defaultdict(int)
        for file, number in self._calls.items():
            calls[package(file)] += next(number)
        return {"calls": calls, "requests": self.requests, "blocks": self.blocks, "bytes": self.bytes}


def package(file: str) -> str:
    """The package that a file is of, as far as it can be seen in its path: `outboxd`, `pymysql`, `asyncio`."""
    parts = Path(file).parts
    for root in ("site-packages", f"python{sys.version_info.major}.{sys.version_info.minor}"):
        if root in parts:
            return parts[parts.index(root) + 1].removesuffix(".py")
    return next((part for part in parts if part in {"outboxd", "bench"}), "other")


def main() -> None:
    """Counts until the program has ended, in whatever way it does."""
    result, module = sys.argv[1:3]
    sys.argv = [module, *sys.argv[3:]]
    tally = Tally()
    tally.start()
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        Path(result).write_text(json.dumps(tally.stop()))


if __name__ == "__main__":
    main()
