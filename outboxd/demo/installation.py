"""MariaDB from the system's packages."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Final

from outboxd.errors import OutboxdError

PACKAGES: Final = ("mariadb-server-core", "mariadb-client-core")
COMMAND: Final = ("apt-get", "install", "-y", "--no-install-recommends", *PACKAGES)
ANNOUNCEMENT: Final = (
    f"This machine has no MariaDB or MySQL server. Debian's packages {' and '.join(PACKAGES)} will be installed with "
    "apt-get: programs only, no service is set up or started."
)
OR_YOUR_OWN: Final = "or name a database of your own with --database-url"


class MissingServerError(OutboxdError):
    """There is no server, and none is installed; the text says why, if that is not plain, and the cure."""

    def __init__(self, why: str = "") -> None:
        super().__init__(f"neither mariadbd nor mysqld is installed{why}; {_by_hand()}")


def check() -> None:
    """Raises MissingServerError where `install` has no chance: not on a Debian, or not for this user."""
    if shutil.which("apt-get") is None:
        raise MissingServerError
    if _become_root() is None:
        raise MissingServerError(", and installing it needs root, or sudo without a password")


def install() -> None:
    """Installs, silently. Raises MissingServerError with apt-get's own words."""
    apt = [*(_become_root() or []), "env", "DEBIAN_FRONTEND=noninteractive"]
    # A source that is out of reach must not keep us from the others: what counts is the installation.
    _run([*apt, "apt-get", "-qq", "update"])
    failure = _run([*apt, *COMMAND])
    if failure is not None:
        raise MissingServerError(f", and installing it failed ({failure})")


def _by_hand() -> str:
    if shutil.which("apt-get"):
        return f"as root: {' '.join(COMMAND)}; {OR_YOUR_OWN}"
    examples = "`dnf install mariadb-server`, `brew install mariadb`"
    return f"install MariaDB with this system's packages ({examples}), {OR_YOUR_OWN}"


def _become_root() -> list[str] | None:
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo and _run([sudo, "-n", "true"]) is None:
        return [sudo, "-n"]
    return None


def _run(command: Sequence[str]) -> str | None:
    """None, or the last line of what went wrong."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode == 0:
        return None
    return ((done.stderr or done.stdout).strip().splitlines() or ["no output"])[-1]
