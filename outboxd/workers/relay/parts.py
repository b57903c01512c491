"""What a relay works with."""

from dataclasses import dataclass

from outboxd.holds import HoldBook
from outboxd.lanes import LaneBook
from outboxd.lifecycle import RetryPolicy
from outboxd.order import OrderPolicy
from outboxd.ports import EventReader, Settler, Sink, Upkeep
from outboxd.workers.lease import Lease


@dataclass(frozen=True)
class Parts:
    """The books and ports that reading and settling share."""

    reader: EventReader
    settler: Settler
    upkeep: Upkeep
    sink: Sink
    book: LaneBook
    holds: HoldBook
    lease: Lease
    policy: RetryPolicy
    order: OrderPolicy
