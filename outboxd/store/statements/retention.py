"""Deleting what is old."""

from collections.abc import Iterable

from outboxd.model import Status
from outboxd.store.statements.tables import Tables, integers


class RetentionStatements:
    """For the worker that walks along the primary keys."""

    def __init__(self, tables: Tables) -> None:
        self._ = tables

    def old_sent(self, after: int, limit: int) -> str:
        """The next rows by id: whether each is sent and old, and whether it was written long ago. Bound: age twice."""
        return (
            f"SELECT id, status = {Status.SENT:d} AND updated_at < NOW(6) - INTERVAL %s MICROSECOND, "
            f"created_at < NOW(6) - INTERVAL %s MICROSECOND FROM {self._.events} "
            f"WHERE id > {int(after)} ORDER BY id LIMIT {int(limit)}"
        )

    def old_dead(self, after: int, limit: int) -> str:
        """The same for dead letters, by the time they were moved; those that hold stay. Bound: age twice."""
        old = "COALESCE(moved_at, created_at) < NOW(6) - INTERVAL %s MICROSECOND"
        return (
            f"SELECT id, {old} AND holds IS NULL, {old} FROM {self._.dead} "
            f"WHERE id > {int(after)} ORDER BY id LIMIT {int(limit)}"
        )

    def delete_sent(self, ids: Iterable[int]) -> str:
        """Deletes rows that are still sent."""
        where = f"WHERE id IN ({integers(ids)}) AND status = {Status.SENT:d}"
        return f"DELETE e FROM {self._.events} AS e FORCE INDEX (PRIMARY) {where}"

    def lock_dead(self, ids: Iterable[int]) -> str:
        """Holds those of the dead letters that nobody else holds until the end of the transaction; waits for none."""
        return (
            f"SELECT id FROM {self._.dead} FORCE INDEX (PRIMARY) WHERE id IN ({integers(ids)}) AND holds IS NULL "
            "FOR UPDATE SKIP LOCKED"
        )

    def delete_dead(self, ids: Iterable[int]) -> str:
        """Deletes dead letters that hold nothing; MySQL uses the index only where there is such a condition too."""
        return f"DELETE d FROM {self._.dead} AS d FORCE INDEX (PRIMARY) WHERE id IN ({integers(ids)}) AND holds IS NULL"
