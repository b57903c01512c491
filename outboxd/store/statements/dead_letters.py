"""Moving rows in error to the dead letters."""

from collections.abc import Iterable

from outboxd.model import Status
from outboxd.store.rows import utf8
from outboxd.store.statements.tables import Tables, integers


class DeadLetterStatements:
    """For the worker that moves them. (What an operator does with dead letters is in `store.dead_letters`.)"""

    def __init__(self, tables: Tables) -> None:
        self._ = tables

    def failed(self, lanes: Iterable[int], after: tuple[int, int], limit: int) -> str:
        """Rows in error and their payloads' sizes, behind the (lane, id) looked at last."""
        lane, event_id = after
        return (
            f"SELECT lane, id, LENGTH(payload) FROM {self._.by_lane} "
            f"WHERE status = {Status.ERROR:d} AND lane IN ({integers(lanes)}) "
            f"AND (lane > {int(lane)} OR lane = {int(lane)} AND id > {int(event_id)}) "
            f"ORDER BY lane, next_attempt_at, id LIMIT {int(limit)}"
        )

    def lock_failed(self, ids: Iterable[int]) -> str:
        """Holds rows in error until the end of the transaction, with the beginning of the reasons they carry; waits for
        none that somebody else holds."""
        return (
            f"SELECT id, {utf8('LEFT(last_error, 100)')}, {utf8(self._.topic)}, {utf8('event_type')} "
            f"FROM {self._.by_id} WHERE id IN ({integers(ids)}) AND status = {Status.ERROR:d} "
            "FOR UPDATE SKIP LOCKED"
        )

    def copy_dead(self, ids: Iterable[int]) -> str:
        """Copies rows in error to the dead letters; one that is there already stays as it is. Bound: reason,
        holds."""
        columns = "id, event_id, event_type, aggregate_type, aggregate_id, topic, payload, trace_id, span_id"
        return (
            f"INSERT INTO {self._.dead} ({columns}, attempt_count, last_error, created_at, headers, "
            "moved_at, reason, holds) "
            f"SELECT {columns}, attempt_count, LEFT(last_error, 2000), created_at, headers, NOW(6), %s, %s "
            f"FROM {self._.events} AS e FORCE INDEX (PRIMARY) "
            f"WHERE e.id IN ({integers(ids)}) AND e.status = {Status.ERROR:d} "
            f"ON DUPLICATE KEY UPDATE id = {self._.dead}.id"
        )

    def delete_moved(self, ids: Iterable[int]) -> str:
        """Deletes rows in error whose copy is there. (The two columns may differ in their collations.)"""
        own, copied = (f"CONVERT({table}.event_id USING utf8mb4) COLLATE utf8mb4_bin" for table in "ed")
        return (
            f"DELETE e FROM {self._.events} AS e FORCE INDEX (PRIMARY) STRAIGHT_JOIN {self._.dead} AS d "
            f"ON d.id = e.id AND {copied} = {own} "
            f"WHERE e.id IN ({integers(ids)}) AND e.status = {Status.ERROR:d}"
        )
