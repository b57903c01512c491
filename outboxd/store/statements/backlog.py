"""What there is to do, and how much of it."""

from collections.abc import Iterable

from outboxd.model import HELD_UNTIL, Status
from outboxd.store.statements.tables import Tables, integers, within


class BacklogStatements:
    """For `ports.Lookout` and `ports.Sampler`."""

    def __init__(self, tables: Tables) -> None:
        self._ = tables

    def look(self, lanes: Iterable[int]) -> str:
        """Whether there are new events, due retries, held events, and rows in error."""
        one = f"EXISTS (SELECT 1 FROM {self._.by_lane} WHERE status = "
        condition = within(lanes)
        each = f"lane IN ({integers(lanes)})"
        return (
            f"SELECT {one}{Status.NEW:d} AND {condition}), "
            f"{one}{Status.RETRY:d} AND {each} AND (next_attempt_at IS NULL OR next_attempt_at <= NOW(6))), "
            f"{one}{Status.RETRY:d} AND {each} AND next_attempt_at = '{HELD_UNTIL}'), "
            f"{one}{Status.ERROR:d} AND {condition})"
        )

    def counts(self, statuses: Iterable[Status], lanes: Iterable[int], limit: int) -> str:
        """How many rows have each status, counted up to the limit; from the index alone."""
        condition = within(lanes)
        return " UNION ALL ".join(
            f"SELECT {status:d}, COUNT(*) FROM (SELECT 1 FROM {self._.by_lane} WHERE status = {status:d} "
            f"AND {condition} LIMIT {int(limit)}) AS counted"
            for status in statuses
        )

    def heads(self, status: Status, lanes: Iterable[int]) -> str:
        """The age in microseconds of the oldest among the first row of each lane."""
        heads = " UNION ALL ".join(
            f"(SELECT created_at FROM {self._.by_lane} WHERE status = {status:d} AND lane = {int(lane)} "
            "ORDER BY next_attempt_at, id LIMIT 1)"
            for lane in lanes
        )
        return f"SELECT TIMESTAMPDIFF(MICROSECOND, MIN(created_at), NOW(6)) FROM ({heads}) AS heads"
