"""`outboxd migrate` and `outboxd run`, as processes, as a user would start them."""

import http.client
import json
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from outboxd.config.keys import PREFIX
from outboxd.demo.child import PYTHON, BrokenError, Child

MIGRATING: Final = 60.0
STARTING: Final = 30.0
DRAINING: Final = 20.0
OURS: Final = re.compile(rf"{PREFIX}(DATABASE__URL|KAFKA__BOOTSTRAP_SERVERS)(_FILE)?")


def environment(inherited: Collection[str], **settings: str) -> dict[str, str]:
    """This process's environment, of which the `OUTBOXD_` variables are `settings`, and those of some sections.

    `settings` are named as in the configuration, `dead_letters__interval`; `inherited` are sections, `kafka`.
    """
    sections = tuple(f"{PREFIX}{section.upper()}__" for section in inherited)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(PREFIX) or (name.startswith(sections) and not OURS.fullmatch(name))
    }
    return kept | {f"{PREFIX}{key.upper()}": value for key, value in settings.items()}


def migrate(environ: Mapping[str, str], folder: Path) -> list[str]:
    """Runs `outboxd migrate`; the lines that it printed. Raises BrokenError with what it said."""
    child = Child("`outboxd migrate`", [*PYTHON, "outboxd", "migrate"], folder / "migrate.log", environ)
    try:
        code = child.finish(MIGRATING)
    finally:
        child.stop(0)
    if code != 0:
        raise BrokenError(f"`outboxd migrate` failed: {' '.join(child.tail).removeprefix('outboxd: ')}")
    return child.lines


class Daemon:
    """`outboxd run`. Starts at once; raises BrokenError when it does not become ready."""

    def __init__(self, environ: Mapping[str, str], folder: Path) -> None:
        self._child = Child("`outboxd run`", [*PYTHON, "outboxd", "run"], folder / "outboxd.log", environ)
        try:
            self._child.wait_for(self._ready, STARTING)
        except BaseException:
            self._child.stop(0)
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    @property
    def tail(self) -> list[str]:
        """The end of its log."""
        return self._child.tail

    def check(self) -> None:
        """Raises BrokenError when it has ended."""
        self._child.check()

    def stop(self) -> None:
        """SIGTERM, and it drains. Raises BrokenError when that did not go well."""
        code = self._child.stop(DRAINING)
        if code != 0:
            raise BrokenError(f"`outboxd run` was stopped, and ended with exit code {code}", self.tail)

    def kill(self) -> None:
        """Ends it, if it still runs, without asking how it went."""
        self._child.stop(DRAINING)

    def _ready(self) -> bool | None:
        """True once /readyz says so; its log names the port."""
        listening = next((json.loads(line) for line in self._child.lines if '"http.listening"' in line), None)
        if listening is None:
            return None
        connection = http.client.HTTPConnection("127.0.0.1", listening["port"], timeout=5)
        try:
            connection.request("GET", "/readyz")
            return True if connection.getresponse().status == http.client.OK else None
        except OSError:
            return None
        finally:
            connection.close()
