"""Rows that no instance would see again: of another dispatcher's processing, and of an unknown status."""

from collections.abc import Iterable
from typing import Final

from outboxd.model import Status
from outboxd.store.statements.tables import Tables, integers

_UNKNOWN: Final = f"(status < {min(Status):d} OR status > {max(Status):d})"


class RecoveryStatements:
    """For the workers that take them back, or give them up."""

    def __init__(self, tables: Tables) -> None:
        self._ = tables

    def lock_free(self, ids: Iterable[int]) -> str:
        """Holds those of the rows that nobody else holds until the end of the transaction; waits for none. (Were it for
        the id alone, MariaDB would walk along the whole index for many of them.)"""
        return f"SELECT id, status FROM {self._.by_id} WHERE id IN ({integers(ids)}) FOR UPDATE SKIP LOCKED"

    def stuck_lanes(self, lanes: Iterable[int]) -> str:
        """The lanes with rows that another dispatcher left in processing. Bound: age in microseconds."""
        return (
            f"SELECT DISTINCT lane FROM {self._.by_lane} WHERE status = {Status.PROCESSING:d} "
            f"AND lane IN ({integers(lanes)}) AND updated_at < NOW(6) - INTERVAL %s MICROSECOND"
        )

    def stuck(self, lanes: Iterable[int], limit: int) -> str:
        """Those rows. Bound: age in microseconds."""
        return (
            f"SELECT id, attempt_count FROM {self._.by_lane} WHERE status = {Status.PROCESSING:d} "
            f"AND lane IN ({integers(lanes)}) AND updated_at < NOW(6) - INTERVAL %s MICROSECOND "
            f"ORDER BY lane, next_attempt_at, id LIMIT {int(limit)}"
        )

    def release(self, ids: Iterable[int], status: Status) -> str:
        """processing -> new or error, one attempt more. Bound: last_error."""
        return (
            f"UPDATE {self._.by_id} SET status = {status:d}, next_attempt_at = NULL, "
            "attempt_count = LEAST(attempt_count, 2147483646) + 1, last_error = %s "
            f"WHERE id IN ({integers(ids)}) AND status = {Status.PROCESSING:d}"
        )

    # --- rows of an unknown status

    def unknown_status(self, lanes: Iterable[int], limit: int) -> str:
        """Rows whose status is below or above those that there are: the two ends of the index."""
        return (
            f"SELECT id, status, attempt_count FROM {self._.by_lane} WHERE {_UNKNOWN} "
            f"AND lane IN ({integers(lanes)}) ORDER BY status, lane, next_attempt_at, id LIMIT {int(limit)}"
        )

    def give_up(self, ids: Iterable[int], status: Status) -> str:
        """Unknown status -> error. Bound: last_error."""
        return (
            f"UPDATE {self._.by_id} SET status = {status:d}, next_attempt_at = NULL, last_error = %s "
            f"WHERE id IN ({integers(ids)}) AND {_UNKNOWN}"
        )
