"""The commands on a real terminal: tables are drawn, and discard asks."""

import os
import pty
import select
import sys
import time

import pytest

from tests.conftest import Database
from tests.end_to_end.daemon import PATIENCE
from tests.migrate.support import Sql
from tests.operations.rows import ids, insert_dead, insert_event


class Terminal:
    """A command on a pseudo-terminal."""

    def __init__(self, outbox: Database, *arguments: str) -> None:
        environment = {"OUTBOXD_DATABASE_URL": outbox.url, "TERM": "xterm", "COLUMNS": "200", "NO_COLOR": "1"}
        kept = {key: value for key, value in os.environ.items() if not key.startswith("OUTBOXD_")}
        self._pid, self._master = pty.fork()
        if self._pid == 0:
            os.execve(sys.executable, [sys.executable, "-m", "outboxd", *arguments], kept | environment)
        self.said = ""

    def read(self, until: str | None = None) -> str:
        """What it has said, when that is among it; without `until`, when it has ended."""
        end = time.monotonic() + PATIENCE
        while until is None or until not in self.said:
            assert time.monotonic() < end, f"it said {self.said!r}"
            if select.select([self._master], [], [], 0.1)[0]:
                try:
                    part = os.read(self._master, 4096)
                except OSError:  # it has closed the terminal
                    part = b""
                if not part:
                    break
                self.said += part.decode(errors="replace")
        return self.said

    def type(self, text: str) -> int:
        """Types a line; its exit code, when it has ended."""
        os.write(self._master, f"{text}\n".encode())
        return self.end()

    def end(self) -> int:
        """Its exit code."""
        self.read()
        _, status = os.waitpid(self._pid, 0)
        os.close(self._master)
        return os.waitstatus_to_exitcode(status)


@pytest.mark.parametrize(("answer", "code", "left"), [("y", 0, [3]), ("n", 1, [1, 2, 3]), ("", 1, [1, 2, 3])])
def test_discard_asks(outbox: Database, sql: Sql, answer: str, code: int, left: list[int]) -> None:
    """With the count; anything but yes deletes nothing."""
    for key in (1, 2, 3):
        insert_dead(sql, key)
    terminal = Terminal(outbox, "deadletters", "discard", "1-2")
    terminal.read("Delete 2 dead letters for good? [y/N]: ")
    assert ids(sql) == [1, 2, 3]
    assert terminal.type(answer) == code
    assert ("nothing was discarded" in terminal.said) is (code == 1)
    assert ids(sql) == left


def test_what_came_after_the_question_stays(outbox: Database, sql: Sql) -> None:
    """Who agreed to delete one does not delete two."""
    insert_dead(sql, 1)
    terminal = Terminal(outbox, "deadletters", "discard", "--all")
    terminal.read("Delete 1 dead letter for good? [y/N]: ")
    insert_dead(sql, 2, moved_at=sql.one("SELECT NOW(6)"))
    assert terminal.type("y") == 0
    assert ids(sql) == [2]


def test_tables(outbox: Database, sql: Sql) -> None:
    """Drawn, and no value steers the terminal."""
    insert_dead(sql, 1, aggregate_id="\x1b[31m[red]order[/red]")
    insert_event(sql, 2, status=2, next_attempt_at="2030-01-01")
    terminal = Terminal(outbox, "deadletters", "list")
    assert terminal.end() == 0
    assert "\\x1b[31m[red]order[/red]" in terminal.said.replace("\r\n", "")
    assert "╭" in terminal.said
    terminal = Terminal(outbox, "status")
    assert terminal.end() == 0
    for title in ("Events", "Instances (free lanes: 64)", "Dead letters (in all: 1)"):
        assert title in terminal.said
    assert "Held aggregates" not in terminal.said
