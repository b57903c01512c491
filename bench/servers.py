"""The private database servers as the benchmark starts them: durable, with a binary log, and with room in memory."""

from collections.abc import Callable
from typing import Final

from tests.servers.mariadb import MariaDB
from tests.servers.mysql import MySQL
from tests.servers.sql import SqlServer

MEMORY: Final = "--innodb-buffer-pool-size=2G"
"""The tables fit, the big one nearly: what is measured is not the disk. (The default is 128 MiB.)"""
FLUSHED: Final = ("--innodb-flush-log-at-trx-commit=1", "--sync-binlog=1")
"""Every commit is on the disk, in the redo log and in the binary log, before it is answered."""


def start_mysql() -> SqlServer:
    """MySQL 9.7. Its binary log is on unless told otherwise."""
    return MySQL(MEMORY, *FLUSHED, "--innodb-redo-log-capacity=512M")


def start_mariadb() -> SqlServer:
    """MariaDB, whose binary log is off unless told otherwise, mixed when on, and not flushed."""
    binlog = ("--log-bin=binlog", "--server-id=1", "--binlog-format=ROW")
    return MariaDB(MEMORY, *FLUSHED, *binlog, "--innodb-log-file-size=512M")


DATABASES: Final[dict[str, Callable[[], SqlServer]]] = {"mysql": start_mysql, "mariadb": start_mariadb}
"""By the name on the command line."""
