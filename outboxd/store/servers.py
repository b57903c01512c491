"""Which database servers outboxd works with."""

import re
from typing import Final, Literal, NamedTuple

from outboxd.errors import UnsupportedServerError

OLDEST_MYSQL: Final = (8, 0, 23)
"""The first with invisible columns."""
OLDEST_MARIADB: Final = (10, 6, 0)
NEEDED: Final = "outboxd needs MySQL 8.0.23 or later, or MariaDB 10.6 or later"

# They speak MySQL's protocol and give a MySQL version, but have neither InnoDB nor its locks.
_LOOKALIKES: Final = re.compile(r"tidb|vitess|oceanbase|singlestore|memsql", re.IGNORECASE)
_VERSION: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)")
# Before 11.0, MariaDB put this in front of its version, so that old replicas took it for a MySQL.
_REPLICATION_PREFIX: Final = "5.5.5-"


class Server(NamedTuple):
    """A supported server."""

    flavour: Literal["mysql", "mariadb"]
    version: tuple[int, int, int]


def check_server(version_string: str) -> Server:
    """Reads what `SELECT VERSION()` returned. Raises UnsupportedServerError, in one line, for anything too old."""
    match = _VERSION.match(version_string.removeprefix(_REPLICATION_PREFIX))
    if match is None or _LOOKALIKES.search(version_string):
        raise UnsupportedServerError(f"the server calls itself {version_string!r}: {NEEDED}")
    major, minor, patch = (int(part) for part in match.groups())
    version = (major, minor, patch)
    mariadb = "mariadb" in version_string.lower()
    if version < (OLDEST_MARIADB if mariadb else OLDEST_MYSQL):
        name = "MariaDB" if mariadb else "MySQL"
        raise UnsupportedServerError(f"{name} {major}.{minor}.{patch} is too old: {NEEDED}")
    return Server("mariadb" if mariadb else "mysql", version)
