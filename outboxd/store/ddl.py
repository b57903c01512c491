"""What the revisions are made of: changes of tables that writers do not notice and that may be run again.

MySQL's DDL is not transactional, so each step looks whether it is done already, and a run that was killed half way is
finished by the next one.
"""

import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateColumn

from outboxd.errors import SchemaError
from outboxd.model import TableNames
from outboxd.store.catalog import IndexShape, TableShape, read_table, shape_of
from outboxd.store.engine import error_code

OURS: Final = "made by outboxd migrate"
"""Comment of the tables that were not adopted."""

LOCK_WAIT: Final = 1
"""Seconds for which a change waits for a table. All other statements on that table queue up behind it meanwhile."""

_INSTANT: Final = "ALGORITHM=INSTANT"
_INPLACE: Final = "ALGORITHM=INPLACE, LOCK=NONE"
_TABLE_BUSY: Final = frozenset({1205, 1213})
# "Not supported, try another algorithm", without and with a reason, and MySQL's limit of 64 instant changes.
_ALGORITHM_REFUSED: Final = frozenset({1845, 1846, 4092})
_DIALECT: Final = mysql.dialect()


class Steps:
    """The changes of one run, on a database or, without a connection, as a script."""

    def __init__(
        self,
        names: TableNames,
        run: Callable[[str], object],
        connection: sa.Connection | None = None,
        *,
        report: Callable[[str], None],
        patience: float,
    ) -> None:
        """`report` takes lines for people; `patience` is for how many seconds a busy table is tried again."""
        self.names = names
        self.report = report
        self._run = run
        self._connection = connection
        self._patience = patience

    def shape(self, table: str) -> TableShape | None:
        """The table as it stands; None when there is none, and always in a script."""
        return read_table(self._connection, table) if self._connection is not None else None

    def scalar(self, query: str) -> Any:
        """The first value of a query; None in a script."""
        return self._connection.execute(sa.text(query)).scalar() if self._connection is not None else None

    def execute(self, statement: str) -> None:
        """Runs one statement that can be repeated."""
        self._patiently(statement)

    def create_table(self, table: sa.Table, comment: str = OURS) -> None:
        """Makes the table with its indexes, unless there is one of that name."""
        if self.shape(table.name) is None:
            self._patiently(create_table_sql(table, comment))

    def drop_table(self, name: str) -> None:
        """Drops the table if it is there."""
        self._patiently(f"DROP TABLE IF EXISTS {quote(name)}")

    def add_columns(self, table: sa.Table) -> None:
        """Adds those of the table's columns that it does not have yet."""
        shape = self.shape(table.name)
        for column in table.columns:
            if shape is None or column.name not in shape.columns:
                self._alter(table.name, f"ADD COLUMN {column_sql(column)}", _INSTANT, _INPLACE)

    def drop_columns(self, table: sa.Table) -> None:
        """Drops those of the table's columns that it still has."""
        shape = self.shape(table.name)
        for column in table.columns:
            if shape is None or column.name in shape.columns:
                self._alter(table.name, f"DROP COLUMN {quote(column.name)}", _INSTANT, _INPLACE)

    def add_index(self, table: str, index: str, columns: Sequence[str]) -> None:
        """Adds an index, unless there is one of that name."""
        shape = self.shape(table)
        if shape is None or index not in shape.indexes:
            self._alter(table, f"ADD INDEX {quote(index)} ({_list(columns)})", _INPLACE)

    def drop_index(self, table: str, index: str, columns: Sequence[str]) -> None:
        """Drops an index of that name over these columns; one of that name over others is somebody else's."""
        shape = self.shape(table)
        if shape is None or shape.indexes.get(index) == IndexShape(False, tuple(columns)):
            self._alter(table, f"DROP INDEX {quote(index)}", _INPLACE)

    def _alter(self, table: str, change: str, *algorithms: str) -> None:
        """Changes a table by the first algorithm that the server takes; none of them locks writers out."""
        for algorithm in algorithms:
            try:
                return self._patiently(f"ALTER TABLE {quote(table)} {change}, {algorithm}")
            except DBAPIError as error:
                if error_code(error) not in _ALGORITHM_REFUSED:
                    raise
                refusal = error
        raise SchemaError(
            f"{table}: the server cannot do '{change}' while writers go on: {refusal.orig}; "
            "stop the writers, run what `outboxd migrate --sql` prints for it without ALGORITHM and LOCK, and repeat"
        ) from refusal

    def _patiently(self, statement: str) -> None:
        """Runs a statement; while a table is busy, lets the queue behind it go and tries again."""
        give_up = time.monotonic() + self._patience
        told = False
        while True:
            try:
                self._run(statement)
                return
            except DBAPIError as error:
                if error_code(error) not in _TABLE_BUSY:
                    raise
                if time.monotonic() > give_up:
                    raise SchemaError(
                        f"a transaction (a dump? a forgotten session?) stays open and keeps '{_short(statement)}' "
                        "from being done; end it, and run `outboxd migrate` again: it goes on where it stopped"
                    ) from error
            if not told:
                self.report(f"waiting for open transactions to end: {_short(statement)}")
                told = True
            time.sleep(random.uniform(0.5, 1.5) * LOCK_WAIT)  # noqa: S311 — jitter, not a secret


def refuse(problems: Iterable[str], what: str) -> None:
    """Raises SchemaError with all problems; returns when there are none."""
    found = list(problems)
    if found:
        raise SchemaError(f"{what}; nothing was changed: " + ";\n  ".join(found))


# --- SQL --------------------------------------------------------------------------------------------------------


def quote(name: str) -> str:
    """The identifier in backticks."""
    return "`" + name.replace("`", "``") + "`"


def column_sql(column: sa.Column[Any]) -> str:
    """A column as CREATE and ALTER TABLE take it."""
    sql = str(CreateColumn(column).compile(dialect=_DIALECT))
    return f"{sql} INVISIBLE" if column.info.get("invisible") else sql


def create_table_sql(table: sa.Table, comment: str) -> str:
    """One statement for the table and all its indexes, so that a crash leaves all of it or nothing."""
    lines = [column_sql(column) for column in table.columns]
    for name, index in shape_of(table).indexes.items():
        kind = "PRIMARY KEY" if name == "PRIMARY" else f"{'UNIQUE ' * index.unique}INDEX {quote(name)}"
        lines.append(f"{kind} ({_list(index.columns)})")
    collation = table.dialect_options["mysql"].get("collate", "utf8mb4_unicode_ci")
    return (
        f"CREATE TABLE IF NOT EXISTS {quote(table.name)} (\n    "
        + ",\n    ".join(lines)
        + f"\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE={collation} COMMENT='{comment}'"
    )


def _list(columns: Iterable[str]) -> str:
    return ", ".join(quote(column) for column in columns)


def _short(statement: str) -> str:
    line = statement.partition("(\n")[0].strip()
    return line if len(line) <= 80 else f"{line[:77]}..."
