"""What MariaDB and MySQL have in common: a port, a root without password, and how a client asks whether they serve."""

import os
import time
from pathlib import Path
from typing import Any, ClassVar

import pymysql
from pymysql.constants import ER

from tests.servers.server import Server, free_port


def run_as() -> list[str]:
    """Both servers refuse to run as root unless told to."""
    return ["--user=root"] if os.geteuid() == 0 else []


class SqlServer(Server):
    """A private database server. `root` logs in over TCP without a password; nobody else can."""

    product: ClassVar[str]
    """`mariadb` or `mysql`."""

    def __init__(self, *arguments: str) -> None:
        """`arguments` go to the server as they are, for example `--log-bin` or `--read-only=ON`."""
        super().__init__()
        self.port = free_port()
        self.arguments = list(arguments)
        """May be changed while the server is stopped."""

    def url(self, database: str = "", *, user: str = "root", password: str = "") -> str:
        """A SQLAlchemy URL."""
        credentials = f"{user}:{password}" if password else user
        return f"mysql+pymysql://{credentials}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str | None = None, **options: Any) -> "pymysql.Connection[Any]":
        """A connection as root in autocommit mode, without TLS; `options` go to `pymysql.connect`."""
        defaults: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": self.port,
            "user": "root",
            "database": database,
            "autocommit": True,
            "charset": "utf8mb4",
            # PyMySQL would load all that the system trusts, for each: a fifth of what the tests' processes do.
            "ssl_disabled": True,
        }
        return pymysql.connect(**(defaults | options))

    @property
    def version(self) -> str:
        """As `SELECT VERSION()` tells it."""
        return str(self.query("SELECT VERSION()")[0][0])

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Runs one statement as root on a connection of its own, and returns its rows."""
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(sql, values or None)
            return list(cursor.fetchall())

    def create_database(self, name: str) -> None:
        """Creates an empty database."""
        self.query(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")

    def drop_database(self, name: str) -> None:
        """Drops a database, and first the connections that use it: an open transaction would block the DROP."""
        for (connection,) in self.query("SELECT id FROM information_schema.processlist WHERE db = %s", name):
            try:
                self.query(f"KILL {connection}")
            except pymysql.OperationalError as error:
                if error.args[0] != ER.NO_SUCH_THREAD:
                    raise
        self.query(f"DROP DATABASE IF EXISTS `{name}`")

    def waits_for_lock(self, statement: str) -> bool:
        """Whether somebody waits for a lock at a statement LIKE this one: many more are at one without."""
        # The servers renew this table only when nobody has read it for 0.1 s.
        time.sleep(0.15)
        query = "SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT' AND trx_query LIKE %s"
        return bool(self.query(query, statement))

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _common_arguments(self) -> list[str]:
        return [
            f"--datadir={self._data}",
            f"--tmpdir={self.folder}",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            f"--socket={self.folder / 'sock'}",
            f"--pid-file={self.folder / 'pid'}",
            # A server that starts deletes the temporary tables of all others in the same place.
            f"--tmpdir={self.folder}",
            *run_as(),
            *self.arguments,
        ]

    def _ready(self) -> bool:
        try:
            self.connect(connect_timeout=1).close()
        except pymysql.OperationalError:
            return False
        return True
