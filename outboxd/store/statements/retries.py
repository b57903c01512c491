"""Rows in retry: those that are due, and those that are held behind a dead letter."""

from collections.abc import Iterable

from outboxd.model import HELD_UNTIL, Status
from outboxd.store.rows import utf8
from outboxd.store.statements.tables import SIGNATURE, Tables, integers, within


class RetryStatements:
    """For the workers that make them due, and new."""

    def __init__(self, tables: Tables) -> None:
        self._ = tables

    def due_lanes(self, lanes: Iterable[int]) -> str:
        """The lanes with due retries; from the index alone."""
        return (
            f"SELECT DISTINCT lane FROM {self._.by_lane} WHERE status = {Status.RETRY:d} "
            f"AND lane IN ({integers(lanes)}) AND (next_attempt_at IS NULL OR next_attempt_at <= NOW(6))"
        )

    def due(self, lane: int, limit: int) -> str:
        """Due retries of a lane, the oldest due first."""
        return (
            f"SELECT id, lane, {utf8('aggregate_id')} FROM {self._.by_lane} WHERE status = {Status.RETRY:d} "
            f"AND lane = {int(lane)} AND (next_attempt_at IS NULL OR next_attempt_at <= NOW(6)) "
            f"ORDER BY next_attempt_at, id LIMIT {int(limit)}"
        )

    def promote(self, ids: Iterable[int]) -> str:
        """retry -> new."""
        return (
            f"UPDATE {self._.by_id} SET status = {Status.NEW:d}, next_attempt_at = NULL "
            f"WHERE id IN ({integers(ids)}) AND status = {Status.RETRY:d}"
        )

    # --- new rows that carry a due time

    def dated_ids(self, lane: int, limit: int) -> str:
        """New rows that carry a due time."""
        return (
            f"SELECT id FROM {self._.by_lane} WHERE status = {Status.NEW:d} AND lane = {int(lane)} "
            f"AND next_attempt_at IS NOT NULL ORDER BY next_attempt_at, id LIMIT {int(limit)}"
        )

    def undate(self, ids: Iterable[int]) -> str:
        """Takes the due time off new rows."""
        return (
            f"UPDATE {self._.by_id} SET next_attempt_at = NULL "
            f"WHERE id IN ({integers(ids)}) AND status = {Status.NEW:d}"
        )

    # --- events that are held behind a dead letter

    def held_lanes(self, lanes: Iterable[int]) -> str:
        """The lanes with such events; a dive into the index for each."""
        return " UNION ALL ".join(
            f"(SELECT lane FROM {self._.by_lane} WHERE status = {Status.RETRY:d} AND lane = {int(lane)} "
            f"AND next_attempt_at = '{HELD_UNTIL}' LIMIT 1)"
            for lane in lanes
        )

    def held(self, lane: int, after: int, limit: int) -> str:
        """Such events of a lane, by id."""
        return (
            f"SELECT id, {utf8('aggregate_id')} FROM {self._.by_lane} "
            f"WHERE status = {Status.RETRY:d} AND lane = {int(lane)} "
            f"AND next_attempt_at = '{HELD_UNTIL}' AND id > {int(after)} ORDER BY id LIMIT {int(limit)}"
        )

    def release_held(self, ids: Iterable[int]) -> str:
        """They are due now."""
        return (
            f"UPDATE {self._.by_id} SET next_attempt_at = NULL WHERE id IN ({integers(ids)}) "
            f"AND status = {Status.RETRY:d} AND next_attempt_at = '{HELD_UNTIL}'"
        )

    # --- what holds them

    def holding(self, lanes: Iterable[int]) -> str:
        """The signature of what holds, by lane: dead letters, and rows in error that may become such."""
        condition = within(lanes)
        return (
            f"SELECT {SIGNATURE} FROM {self._.by_lane} WHERE status = {Status.ERROR:d} AND {condition} "
            f"GROUP BY status, lane UNION ALL SELECT {SIGNATURE} {self._.holding_in(condition)}"
        )

    def holding_rows(self, lane: int) -> str:
        """What holds in a lane; of rows in error, topic and event type too."""
        return (
            f"SELECT id, {utf8('aggregate_id')}, {utf8(self._.topic)}, {utf8('event_type')} FROM {self._.by_lane} "
            f"WHERE status = {Status.ERROR:d} AND lane = {int(lane)} UNION ALL "
            f"SELECT id, {utf8('aggregate_id')}, NULL, NULL FROM {self._.holding} "
            f"WHERE holds = 1 AND lane = {int(lane)}"
        )
