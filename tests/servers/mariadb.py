"""A private MariaDB, from the system's own packages."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.servers import debian
from tests.servers.cache import UnavailableError
from tests.servers.sql import SqlServer, run_as

PACKAGES = ("mariadb-server-core", "mariadb-client-core")


def _find(program: str) -> str:
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin:/usr/local/bin")
    if path is None:
        raise UnavailableError(f"no `{program}`: install MariaDB (Debian: apt-get install {' '.join(PACKAGES)})")
    return path


def provide() -> str:
    """Installs MariaDB's server where the system is Debian and allows it. Returns what is there."""
    try:
        _find("mariadbd")
    except UnavailableError:
        debian.install(*PACKAGES)
    return _find("mariadbd")


class MariaDB(SqlServer):
    """MariaDB as the system has it, with default settings."""

    name = "MariaDB"
    product = "mariadb"

    def __init__(self, *arguments: str) -> None:
        """Raises UnavailableError when MariaDB is not installed."""
        self._program = _find("mariadbd")
        self._installer = _find("mariadb-install-db")
        super().__init__(*arguments)

    def _prepare(self) -> None:
        command = [
            self._installer,
            "--no-defaults",
            f"--datadir={self._data}",
            f"--tmpdir={self.folder}",  # another server that starts tidies up a shared one
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--force",  # does not ask how this host is called
            *run_as(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"mariadb-install-db failed:\n{done.stdout}{done.stderr}")

    def _command(self) -> Sequence[str | Path]:
        return [self._program, "--no-defaults", *self._common_arguments()]
