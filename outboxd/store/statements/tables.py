"""What all statements of a source have in common: its tables, and how rows are looked up in them."""

from collections.abc import Iterable
from typing import Final

from outboxd.model import Status, TableNames
from outboxd.store.rows import as_bytes

LANE_INDEX: Final = "idx_relay"
HOLDS_INDEX: Final = "idx_holds_lane"
SIGNATURE: Final = f"""lane, {as_bytes("CONCAT_WS(' ', COUNT(*), SUM(id), SUM(CRC32(id)))")}"""
"""Of rows grouped by lane. Sums of ids may be larger than any integer that a server or driver has."""


def within(lanes: Iterable[int]) -> str:
    """The condition for the lanes; where they follow on each other, one range instead of many.

    It matters where a dump keeps dead rows in the index: each range may walk over those of all lanes behind it.
    """
    ordered = sorted(lanes)
    if len(ordered) > 1 and ordered == list(range(ordered[0], ordered[-1] + 1)):
        return f"lane BETWEEN {int(ordered[0])} AND {int(ordered[-1])}"
    return f"lane IN ({integers(ordered)})"


def integers(values: Iterable[int]) -> str:
    """`1,2,3`: safe to stand in a statement, because everything in it was an int."""
    return ",".join(map(str, map(int, values)))


class Tables:
    """The tables of one source, as statements name them."""

    def __init__(self, names: TableNames, *, may_hold: bool, default_topic: str) -> None:
        """As of `Statements`."""
        self.events = f"`{names.events}`"
        self.dead = f"`{names.dead_letters}`"
        self.instances = f"`{names.instances}`"
        self.by_lane = f"{self.events} FORCE INDEX ({LANE_INDEX})"
        # Of a list of ids that are much of a small table, a server would rather look at all its rows.
        self.by_id = f"{self.events} FORCE INDEX (PRIMARY)"
        self.holding = f"{self.dead} FORCE INDEX ({HOLDS_INDEX})"
        self.topic = f"IF(LENGTH(topic) = 0, '{default_topic}', topic)" if default_topic else "topic"
        self.blocking = integers((Status.RETRY, Status.PROCESSING, *((Status.ERROR,) if may_hold else ())))
        """The statuses of rows that block their aggregate."""

    def blocking_in(self, condition: str) -> str:
        """The rows that block, grouped for their signature: from the index alone."""
        return f"FROM {self.by_lane} WHERE status IN ({self.blocking}) AND {condition} GROUP BY status, lane"

    def holding_in(self, condition: str) -> str:
        """The dead letters that hold, likewise."""
        return f"FROM {self.holding} WHERE holds = 1 AND {condition} GROUP BY holds, lane"
