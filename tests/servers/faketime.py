"""A clock that can be set while a process runs: libfaketime, from Debian's package, unpacked into the cache."""

from pathlib import Path

from tests.servers import debian
from tests.servers.cache import CACHE, UnavailableError, fill

NAME = "libfaketime"


def provide() -> str:
    """Downloads it, unless the system has it. Returns where it is."""
    try:
        return str(find())
    except UnavailableError:
        fill(NAME, lambda folder: debian.unpack(NAME, folder, dependencies=False))
        return str(find())


def find() -> Path:
    """The library for programs with threads. Raises UnavailableError with the cure."""
    for root in (CACHE / NAME, Path("/")):
        found = sorted(root.glob("usr/lib/*/faketime/libfaketimeMT.so.1"))
        if found:
            return found[0]
    raise UnavailableError(f"{NAME} is missing: run `make servers`, or install Debian's package {NAME}")


class Clock:
    """What processes with this environment take for the time of day. Monotonic clocks are left alone."""

    def __init__(self, folder: Path) -> None:
        """Raises UnavailableError."""
        self._file = folder / "clock"
        self.set(0)
        self.environment = {
            "LD_PRELOAD": str(find()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset: float) -> None:
        """So many seconds before (+) or behind (-) the host's clock; it is seen within a second."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{offset:+.3f}\n")
        fresh.replace(self._file)
