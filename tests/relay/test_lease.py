"""The lease keeper, by itself."""

from typing import Any, cast

from outboxd.holds import HoldBook
from outboxd.lanes import LaneBook
from outboxd.order import OrderPolicy
from outboxd.workers.lease import Lease, LeaseKeeper
from tests.relay.test_bell import NoMetrics


class Leases:
    """Where the lease still stands."""

    async def renew(self, *_: object) -> None:
        """It does."""


async def test_everybody_is_woken_when_the_lease_is_trusted_again() -> None:
    """Whoever found it lapsed has gone to rest, perhaps for minutes, and may have asked for lanes."""
    lease, nothing = Lease(), cast(Any, NoMetrics())
    keeper = LeaseKeeper(
        cast(Any, Leases()), lease, LaneBook(), HoldBook(OrderPolicy()), nothing,
        source="s", ttl=15.0, margin=1.0, first_batch=10, instance_name="",
    )  # fmt: skip
    woken: list[bool] = []
    keeper.lanes_changed = lambda: woken.append(lease.trusted)
    lease.extend("i", 0.0)
    await keeper._renew()
    await keeper._renew()
    assert woken == [True]
