"""Prometheus's own checker, from Debian's package `prometheus`: unpacked into the cache, unless it is installed."""

import shutil
from pathlib import Path

from tests.servers import debian
from tests.servers.cache import CACHE, UnavailableError, fill


def provide() -> str:
    """Downloads it, unless the system has it. Returns where it is."""
    try:
        return str(find())
    except UnavailableError:
        fill("prometheus", lambda folder: debian.unpack("prometheus", folder, dependencies=False))
        return str(find())


def find() -> Path:
    """Its path. Raises UnavailableError with the cure."""
    unpacked = CACHE / "prometheus" / "usr" / "bin" / "promtool"
    if unpacked.exists():
        return unpacked
    installed = shutil.which("promtool")
    if installed is None:
        raise UnavailableError("promtool is missing: run `make servers`, or install Debian's package prometheus")
    return Path(installed)
