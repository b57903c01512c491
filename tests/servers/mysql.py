"""A private MySQL 9.7, from Debian unstable: unpacked into the cache, not installed."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.servers import debian
from tests.servers.cache import CACHE, UnavailableError, fill
from tests.servers.sql import SqlServer, run_as

_ACCOUNTS = """\
CREATE USER root@'127.0.0.1';
GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;
"""


def provide() -> str:
    """Downloads MySQL and unpacks it. Returns where it is."""
    return str(fill("mysql9", lambda folder: debian.unpack("mysql-server-core", folder, suite="sid")))


def _program() -> list[str | Path]:
    """mysqld with the C library that it was built for, which is newer than the system's."""
    root = CACHE / "mysql9"
    loaders = list(root.glob("usr/lib64/ld-linux-*")) or list(root.glob("usr/lib/ld-linux-*"))
    libraries = list(root.glob("usr/lib/*-linux-gnu"))
    if not loaders or not libraries:
        raise UnavailableError("MySQL 9 is not in the cache: run `make servers`")
    share = root / "usr" / "share" / "mysql"
    return [
        loaders[0],
        "--library-path",
        libraries[0],
        root / "usr" / "sbin" / "mysqld",
        "--no-defaults",
        f"--basedir={root / 'usr'}",
        f"--lc-messages-dir={share}",
        f"--character-sets-dir={share / 'charsets'}",
        f"--plugin-dir={root / 'usr' / 'lib' / 'mysql' / 'plugin'}",
        "--secure-file-priv=",
        "--mysqlx=OFF",
    ]


class MySQL(SqlServer):
    """MySQL 9.7 with default settings: the binary log is on, and every commit is flushed."""

    name = "MySQL"
    product = "mysql"

    def __init__(self, *arguments: str) -> None:
        """Raises UnavailableError when MySQL was not provided."""
        self._program = _program()
        super().__init__(*arguments)

    def _prepare(self) -> None:
        shutil.copytree(fill("mysql9-data", self._initialize), self._data)

    def _initialize(self, folder: Path) -> None:
        """An empty data folder takes seconds to make, so one is kept to be copied."""
        accounts = self.folder / "accounts.sql"
        accounts.write_text(_ACCOUNTS)
        command = [
            *self._program,
            "--initialize-insecure",
            f"--datadir={folder}",
            f"--init-file={accounts}",
            *run_as(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"mysqld --initialize failed:\n{done.stderr}")
        (folder / "auto.cnf").unlink(missing_ok=True)  # every server makes an identity of its own

    def _command(self) -> Sequence[str | Path]:
        return [*self._program, *self._common_arguments()]
