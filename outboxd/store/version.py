"""The revision that the tables are at. Apart from the migrator, so that the daemon does not load Alembic."""

from typing import Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from outboxd.errors import SchemaError
from outboxd.model import TableNames
from outboxd.store.engine import error_code

NEWEST: Final = "0003"
"""The newest revision in `migrations/`. Revisions are numbered, so a greater one is a later one."""

_NO_SUCH_TABLE: Final = 1146
_DENIED: Final = frozenset({1142, 1143})


def version_table(names: TableNames) -> str:
    """Alembic's table of this source."""
    return f"{names.events}_version"


def current_revision(connection: Connection, names: TableNames) -> str | None:
    """The revision of the tables; None before the first. Raises SchemaError when it may not be read."""
    table = version_table(names)
    try:
        found = connection.exec_driver_sql(f"SELECT MAX(version_num) FROM `{table}`").scalar()
    except DBAPIError as error:
        if error_code(error) == _NO_SUCH_TABLE:
            return None
        if error_code(error) in _DENIED:
            raise SchemaError(
                f"the database user may not read {table}: run `outboxd migrate`, then what `outboxd grants` prints"
            ) from error
        raise
    return None if found is None else str(found)


def require_current(connection: Connection, names: TableNames) -> None:
    """Returns when the tables have everything this version of outboxd needs; raises SchemaError when they do not.

    Tables that a later version has migrated are accepted: revisions add and never take away, so that a rolling
    upgrade can be stopped, and undone.
    """
    found = current_revision(connection, names)
    if found is None:
        raise SchemaError(f"{names.events} has not been migrated: run `outboxd migrate`")
    if found < NEWEST:
        raise SchemaError(f"{names.events} is at revision {found}, behind {NEWEST}: run `outboxd migrate`")
