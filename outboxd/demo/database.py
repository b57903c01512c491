"""A private MariaDB or MySQL: its data in a folder of the demo's, reached by a socket there, and by nobody else."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

from sqlalchemy.exc import DBAPIError

from outboxd.demo.child import BrokenError, Child
from outboxd.errors import OutboxdError
from outboxd.store.engine import open_engine

PLACES: Final = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/usr/libexec", "/opt/homebrew/bin")
"""Where servers stand that are not on the path of users."""
INITIALIZING: Final = 120.0
STARTING: Final = 60.0
LONGEST_SOCKET: Final = 100
"""Characters of the path of a socket; the systems' limits are 103 to 107."""


class Program(NamedTuple):
    """An installed server."""

    path: str
    installer: str | None
    """MariaDB makes its data folder by a program of its own, MySQL by itself."""

    @property
    def product(self) -> str:
        """`MariaDB` or `MySQL`."""
        return "MariaDB" if self.installer else "MySQL"


def find(named: str | None = None) -> Program | None:
    """The server of that name or path, else `mariadbd`, else `mysqld`; None where there is none."""
    for name in [named] if named else ["mariadbd", "mysqld"]:
        path = _which(name)
        if path is None:
            continue
        if "MariaDB" not in _version(path):
            return Program(path, None)
        installer = _which("mariadb-install-db") or _which("mysql_install_db")
        if installer is not None:
            return Program(path, installer)
    return None


def _which(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(PLACES))


def _version(path: str) -> str:
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout


class PrivateDatabase:
    """Starts at once; `url` is that of an empty database in it. Raises BrokenError."""

    def __init__(self, program: Program, folder: Path) -> None:
        self._socket = folder / "sql.sock"
        if len(str(self._socket)) > LONGEST_SOCKET:
            raise OutboxdError("the path of the temporary folder is too long; set TMPDIR to a shorter one")
        data = folder / "data"
        as_root = ["--user=root"] if os.geteuid() == 0 else []
        self._initialize(program, [f"--datadir={data}", *as_root], folder)
        self._server = Child(
            "the private database",
            [
                program.path,
                "--no-defaults",
                f"--datadir={data}",
                f"--socket={self._socket}",
                f"--pid-file={folder / 'sql.pid'}",
                "--skip-networking",
                *as_root,
                *_only_mysql(program),
            ],
            folder / "database.log",
        )
        try:
            version = self._server.wait_for(self._ready, STARTING)
        except BaseException:
            self.stop()
            raise
        self.version = f"{program.product} {version.partition('-')[0]}"
        """Product and number."""

    @property
    def url(self) -> str:
        """As root, who has no password; the folder keeps others out."""
        return self._url("shop")

    def check(self) -> None:
        """Raises BrokenError when it has ended."""
        self._server.check()

    def stop(self) -> None:
        """Ends it at once: nobody will read its data again."""
        self._server.stop(0)

    def _initialize(self, program: Program, arguments: list[str], folder: Path) -> None:
        if program.installer is not None:
            options = ["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--force"]
            command = [program.installer, *options, *arguments]
        else:
            command = [program.path, "--no-defaults", "--initialize-insecure", *_only_mysql(program), *arguments]
        child = Child("the initialization of the private database", command, folder / "initialize.log")
        try:
            code = child.finish(INITIALIZING)
        finally:
            child.stop(0)
        if code != 0:
            raise BrokenError(f"{child.name} failed with exit code {code}", child.tail)

    def _ready(self) -> str | None:
        engine = open_engine(self._url(""))
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql("CREATE DATABASE IF NOT EXISTS shop CHARACTER SET utf8mb4")
                return str(connection.exec_driver_sql("SELECT VERSION()").scalar_one())
        except DBAPIError:
            return None

    def _url(self, database: str) -> str:
        return f"mysql+pymysql://root@/{database}?unix_socket={quote(str(self._socket), safe='')}"


def _only_mysql(program: Program) -> list[str]:
    """MySQL would listen on a second port, and wants a folder for exports that a package makes."""
    return [] if program.installer else ["--mysqlx=OFF", "--secure-file-priv="]
