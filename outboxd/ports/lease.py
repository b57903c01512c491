"""Instances, and the lanes that they own."""

from collections.abc import Collection
from typing import NamedTuple, Protocol


class Grant(NamedTuple):
    """A lane as its owner got it."""

    lane: int
    deaths: int
    """How many of its owners died in a row: what the last can have had in flight is sent with care."""
    alone_id: int | None
    """The event that was alone in its batch when an owner died."""


class LeaseView(NamedTuple):
    """What one heartbeat saw."""

    members: tuple[str, ...]
    """The live instances' ids, sorted."""
    lanes: tuple[Grant, ...]
    """The lanes that the asking instance owns."""
    next_expiry: float | None
    """Seconds until the first of the other instances' leases ends, by the database's clock."""
    expired: bool
    """There are instances whose lease has ended."""


class LeaseStore(Protocol):
    """The tables of instances and lanes."""

    async def register(self, instance: str, name: str | None, ttl: float) -> None:
        """Inserts the instance. Raises LeaseLostError when a live one has this name."""

    async def renew(self, instance: str, ttl: float, report: str) -> None:
        """Extends the lease by `ttl` seconds from now, and leaves a report (a JSON object as text) for operators.
        Raises LeaseLostError once it has ended."""

    async def evict_expired(self, instance: str) -> list[str]:
        """Deletes the rows of expired instances and frees their lanes as suspect, in one transaction."""

    async def take(self, instance: str, count: int) -> None:
        """Takes up to `count` free lanes."""

    async def give_back(self, instance: str, lanes: Collection[int]) -> None:
        """Frees lanes, so that another instance can take them."""

    async def view(self, instance: str) -> LeaseView:
        """The members and this instance's lanes."""

    async def deregister(self, instance: str) -> None:
        """Frees all lanes of the instance and deletes its row, in one transaction."""
