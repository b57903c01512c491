"""Brings the tables of a source to a revision, by Alembic; one migrator at a time, while writers go on."""

import hashlib
import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationInfo
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text

import outboxd
from outboxd.errors import ConfigError, SchemaError
from outboxd.model import TableNames
from outboxd.store.ddl import LOCK_WAIT, Steps
from outboxd.store.direct import in_plain_words
from outboxd.store.engine import ConnectOptions, open_engine
from outboxd.store.servers import check_server
from outboxd.store.version import current_revision, require_current, version_table

__all__ = ["Migrator", "Revision", "require_current"]

BASE: Final = "base"
"""Before the first revision."""
HEAD: Final = "head"

_LOCK_PORTION: Final = 10
"""Seconds after which a migrator that waits for another one says so."""
_A_DAY: Final = 86_400.0
_MAX_NAME: Final = 64

_SCRIPT_HEAD: Final = f"""\
-- Existing tables of the Go library are adopted. Stop at the first error, as the mysql client does. After error 1205
-- (a transaction keeps the table in use) go on with the same statement, or let `outboxd migrate` do the rest.
SET SESSION lock_wait_timeout = {LOCK_WAIT};
SET SESSION time_zone = '+00:00';
SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION';

"""


def _nobody(_line: str) -> None:
    """Where nobody wants to know."""


class Revision(NamedTuple):
    """A line of the history."""

    id: str
    title: str
    applied: bool


class Migrator:
    """The revisions of one source.

    Methods that ask the database raise DatabaseUnavailableError, UnsupportedServerError and SchemaError; what they
    could not finish, the next run goes on with.
    """

    def __init__(
        self,
        url: str,
        names: TableNames,
        options: ConnectOptions | None = None,
        *,
        report: Callable[[str], None] = _nobody,
        patience: float = 120.0,
    ) -> None:
        """`report` takes lines for people; `patience` is for how many seconds a table in use is tried again.

        Raises ConfigError when the name of the events table leaves no room for the version table's.
        """
        if len(version_table(names)) > _MAX_NAME:
            raise ConfigError(f"tables.events: {names.events} is too long by some letters; write at most 56")
        self._url = url
        self._names = names
        # A change of a large table takes as long as it takes.
        self._options = replace(options or ConnectOptions(), read_timeout=_A_DAY)
        self._report = report
        self._patience = patience
        self._scripts = ScriptDirectory.from_config(_config())

    def current(self) -> str | None:
        """The revision of the tables; None before the first."""
        with self._connected() as connection:
            return current_revision(connection, self._names)

    def behind(self) -> bool:
        """Whether `upgrade` has something to do. False also for tables that a later outboxd migrated."""
        return (self.current() or "") < self._resolve(HEAD)

    def history(self) -> list[Revision]:
        """All revisions, oldest first."""
        current = self.current() or ""
        found = [
            Revision(script.revision, script.doc, script.revision <= current)
            for script in self._scripts.walk_revisions()
        ]
        return found[::-1]

    def check(self) -> None:
        """Raises SchemaError when `upgrade` would refuse the tables that are there. Changes nothing."""
        with self._connected() as connection:
            self._check_upgrade(connection, current_revision(connection, self._names) or BASE, self._resolve(HEAD))

    def upgrade(self, to: str = HEAD) -> None:
        """Goes up to a revision; does nothing when the tables are there, or beyond the newest."""
        target = self._resolve(to)
        with self._connected() as connection, self._alone(connection):
            current = current_revision(connection, self._names)
            if current is not None and (current == target or (to == HEAD and current > target)):
                self._report(f"{self._names.events}: nothing to do, at revision {current}")
                return
            if current is not None and current > target:
                raise SchemaError(
                    f"{self._names.events} is at revision {current}, beyond {target}: "
                    f"`outboxd migrate down --to {target}` goes back"
                )
            self._check_upgrade(connection, current or BASE, target)
            command.upgrade(self._config(connection), target)

    def downgrade(self, to: str | None = None) -> None:
        """Goes down to a revision (or `base`), by default by one. Refuses what would lose a row."""
        with self._connected() as connection, self._alone(connection):
            current = current_revision(connection, self._names)
            if current is None:
                self._report(f"{self._names.events}: nothing to undo")
                return
            target = self._resolve(to) if to else self._below(current)
            if target != BASE and target >= current:
                raise SchemaError(f"{self._names.events} is at revision {current}: {target} is not below it")
            steps = self._steps(connection)
            for script in self._between(current, target):
                script.module.check_downgrade(steps)
            command.downgrade(self._config(connection), target)

    def sql(self, start: str = BASE, to: str = HEAD) -> str:
        """The statements from one revision up to another, as the `mysql` client takes them. Asks no database."""
        start, to = self._resolve(start), self._resolve(to)
        if start != BASE and start >= to:
            raise SchemaError(f"there is nothing to do from revision {start} to {to}")
        output = io.StringIO()
        command.upgrade(self._config(None, output), f"{start}:{to}", sql=True)
        return f"{_SCRIPT_HEAD}{output.getvalue()}COMMIT;\n"

    # --- revisions ----------------------------------------------------------------------------------------------

    def _script(self, revision: str) -> Script:
        try:
            script = self._scripts.get_revision(revision)
        except CommandError as error:
            raise _unknown(revision) from error
        if script is None:
            raise _unknown(revision)
        return script

    def _resolve(self, revision: str) -> str:
        return BASE if revision == BASE else self._script(revision).revision

    def _below(self, revision: str) -> str:
        return str(self._script(revision).down_revision or BASE)

    def _between(self, upper: str, lower: str) -> list[Script]:
        """The revisions above `lower`, up to `upper`, newest first."""
        return list(self._scripts.iterate_revisions(self._resolve(upper), self._resolve(lower)))

    def _check_upgrade(self, connection: Connection, current: str, target: str) -> None:
        steps = self._steps(connection)
        for script in reversed(self._between(target, current)):
            script.module.check_upgrade(steps)

    def _steps(self, connection: Connection) -> Steps:
        return Steps(self._names, connection.exec_driver_sql, connection, report=self._report, patience=self._patience)

    # --- Alembic ------------------------------------------------------------------------------------------------

    def _config(self, connection: Connection | None, output: io.StringIO | None = None) -> Config:
        config = _config(output)
        config.attributes.update(
            names=self._names,
            connection=connection,
            report=self._report if connection is not None else _nobody,
            patience=self._patience,
            on_apply=self._on_apply,
        )
        return config

    def _on_apply(self, *, step: MigrationInfo, **_: Any) -> None:
        script = self._script(str(step.up_revision_id))
        self._report(f"{script.revision} {script.doc}: {'done' if step.is_upgrade else 'undone'}")

    # --- the connection -----------------------------------------------------------------------------------------

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """A connection in autocommit to a supported server; database errors become ours."""
        engine = open_engine(self._url, self._options)
        with in_plain_words(), engine.connect() as connection:
            check_server(str(connection.exec_driver_sql("SELECT VERSION()").scalar()))
            connection.exec_driver_sql(f"SET SESSION lock_wait_timeout = {LOCK_WAIT}")
            yield connection

    @contextmanager
    def _alone(self, connection: Connection) -> Iterator[None]:
        """Holds the named lock of this source. It ends with the connection, so a killed migrator leaves none."""
        database = connection.exec_driver_sql("SELECT DATABASE()").scalar()
        place = hashlib.sha256(f"{database}.{self._names.events}".encode()).hexdigest()[:32]
        lock = {"name": f"outboxd migrate {place}", "seconds": _LOCK_PORTION}
        while not connection.execute(text("SELECT GET_LOCK(:name, :seconds)"), lock).scalar():
            self._report("another `outboxd migrate` is at work on these tables: waiting for it")
        try:
            yield
        finally:
            if not connection.invalidated:
                connection.execute(text("SELECT RELEASE_LOCK(:name)"), lock)


def _unknown(revision: str) -> SchemaError:
    return SchemaError(f"this outboxd knows no revision {revision}: `outboxd migrate history` lists what it knows")


def _config(output: io.StringIO | None = None) -> Config:
    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config(output_buffer=output)
    config.set_main_option("script_location", str(scripts_folder()).replace("%", "%%"))
    return config


def scripts_folder() -> Path:
    """`migrations/`: inside the package where it was installed from a wheel, beside it in a checkout."""
    package = Path(outboxd.__file__).parent
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"
