"""The least that the daemon's user, and the user that migrates, must be allowed."""

import re
from typing import Final, NamedTuple

from outboxd.errors import ConfigError
from outboxd.model import TableNames
from outboxd.store.ddl import quote
from outboxd.store.version import version_table

_ACCOUNT: Final = re.compile(
    r"""(?P<q>['"`]?)(?P<user>[^'"`@\\]+)(?P=q)   (?: @ (?P<r>['"`]?)(?P<host>[^'"`@\\]+)(?P=r) )?""", re.VERBOSE
)


class Account(NamedTuple):
    """A user of the database server."""

    user: str
    host: str = "%"

    @classmethod
    def parse(cls, text: str) -> "Account":
        """Reads `outboxd`, `outboxd@10.0.0.%` or `'outboxd'@'%'`. Raises ConfigError."""
        match = _ACCOUNT.fullmatch(text.strip())
        if match is None:
            raise ConfigError("the name of a database user cannot be read; write it as 'outboxd'@'%'")
        return cls(match["user"], match["host"] or "%")

    def __str__(self) -> str:
        return f"'{self.user}'@'{self.host}'"


def daemon_grants(database: str, names: TableNames, account: Account, *, binlog: bool = False) -> list[str]:
    """For `outboxd run`, with the binary log as its doorbell or without. The tables must exist: run `outboxd migrate`
    before."""
    # To follow the log, and to ask where it ends (in MariaDB, BINLOG MONITOR). Neither can be granted for one database.
    everywhere = [f"GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {account};"] if binlog else []
    return everywhere + _grants(
        database,
        account,
        {
            names.events: "SELECT, INSERT, UPDATE, DELETE",
            names.dead_letters: "SELECT, INSERT, UPDATE, DELETE",
            names.instances: "SELECT, INSERT, UPDATE, DELETE",
            names.lanes: "SELECT, UPDATE",
            version_table(names): "SELECT",
        },
    )


def migrator_grants(database: str, names: TableNames, account: Account) -> list[str]:
    """For `outboxd migrate`, up and down to 0001. The events and the dead letters it can change, but not drop."""
    # ALTER TABLE asks for ALTER, CREATE and INSERT.
    change = "SELECT, INSERT, CREATE, ALTER, INDEX"
    return _grants(
        database,
        account,
        {
            names.events: change,
            names.dead_letters: change,
            names.instances: f"{change}, DROP",
            names.lanes: f"{change}, DROP",
            version_table(names): "SELECT, INSERT, UPDATE, DELETE, CREATE",
        },
    )


def _grants(database: str, account: Account, privileges: dict[str, str]) -> list[str]:
    return [f"GRANT {what} ON {quote(database)}.{quote(table)} TO {account};" for table, what in privileges.items()]
