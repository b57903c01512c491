"""The folder where downloaded servers stand: `.cache/servers` of the checkout, or $OUTBOXD_TEST_CACHE."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("OUTBOXD_TEST_CACHE") or CHECKOUT / ".cache" / "servers").resolve()


class UnavailableError(Exception):
    """A server cannot be had on this machine; the text says why, and the cure."""


def fill(name: str, build: Callable[[Path], None]) -> Path:
    """The folder `name` of the cache; `build` fills it when it is not there. It appears complete or not at all."""
    target = CACHE / name
    if target.is_dir():
        return target
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix=f"{name}.partial-") as partial:
        content = Path(partial) / name
        content.mkdir()
        build(content)
        try:
            content.rename(target)
        except OSError:
            if not target.is_dir():  # else another run was faster
                raise
    return target


def record(name: str, reason: str | None) -> None:
    """Keeps why `name` could not be provided, for the tests to report; None: it is there now."""
    CACHE.mkdir(parents=True, exist_ok=True)
    note = CACHE / f"{name}.unavailable"
    if reason is None:
        note.unlink(missing_ok=True)
    else:
        note.write_text(reason)


def recorded(name: str) -> str | None:
    """Why the last attempt to provide `name` failed, if it did."""
    note = CACHE / f"{name}.unavailable"
    return note.read_text() if note.exists() else None
