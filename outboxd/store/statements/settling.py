"""Settling batches: what became of their events."""

from collections.abc import Iterable

from outboxd.model import HELD_UNTIL, Status
from outboxd.store.statements.tables import Tables, integers


def these(count: int) -> str:
    """What a write by ids ends with where they may have been given again. Bound: so many event ids."""
    return f" AND event_id IN ({', '.join(['%s'] * count)})"


class SettlingStatements:
    """For `ports.Settler`."""

    def __init__(self, tables: Tables, *, keep_sent: bool) -> None:
        self._ = tables
        self._keep_sent = keep_sent

    def sent(self, ids: Iterable[int]) -> str:
        """Acknowledged rows: marked, or deleted where sent rows are not kept."""
        where = f"WHERE id IN ({integers(ids)}) AND status = {Status.NEW:d}"
        if not self._keep_sent:
            return f"DELETE e FROM {self._.events} AS e FORCE INDEX (PRIMARY) {where}"
        return f"UPDATE {self._.by_id} SET status = {Status.SENT:d} {where}"

    def fence(self) -> str:
        """Finds the instance alive and keeps it so until the end of the transaction. Bound: instance."""
        return f"SELECT 1 FROM {self._.instances} WHERE id = %s AND expires_at > NOW(6) LOCK IN SHARE MODE"

    def reject(self, ids: Iterable[int], status: Status, attempt_delta: int, *, retry: bool) -> str:
        """new -> retry or error. Bound: delay in microseconds (retry only), last_error."""
        due = "NOW(6) + INTERVAL %s MICROSECOND" if retry else "NULL"
        return (
            f"UPDATE {self._.by_id} SET status = {status:d}, "
            f"attempt_count = GREATEST(attempt_count, 0) + {int(attempt_delta)}, "
            f"next_attempt_at = {due}, last_error = %s WHERE id IN ({integers(ids)}) AND status = {Status.NEW:d}"
        )

    def due_of(self, event_id: int) -> str:
        """When a blocking row lets its successors go: its due time, or now; in processing, a while from now; behind a
        dead letter, when that is gone."""
        return (
            f"SELECT IF(status = {Status.ERROR:d}, '{HELD_UNTIL}', COALESCE(next_attempt_at, "
            f"NOW(6) + INTERVAL IF(status = {Status.PROCESSING:d}, 30, 0) SECOND)) FROM {self._.events} "
            f"WHERE id = {int(event_id)} AND status IN ({self._.blocking}) UNION ALL "
            f"SELECT '{HELD_UNTIL}' FROM {self._.dead} WHERE id = {int(event_id)} AND holds = 1"
        )

    def hold(self, ids: Iterable[int]) -> str:
        """new -> retry without an attempt. Bound: due time, as the database gave it."""
        return (
            f"UPDATE {self._.by_id} SET status = {Status.RETRY:d}, next_attempt_at = %s "
            f"WHERE id IN ({integers(ids)}) AND status = {Status.NEW:d}"
        )

    def recount(self, ids: Iterable[int], before: int, after: int) -> str:
        """Suspect events: one attempt more before they are sent again, or less when they were not sent and their owner
        lives. Said twice, because an answer was lost, it is done once."""
        return (
            f"UPDATE {self._.by_id} SET attempt_count = {int(after)} "
            f"WHERE id IN ({integers(ids)}) AND status = {Status.NEW:d} AND attempt_count = {int(before)}"
        )
