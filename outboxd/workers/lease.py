"""The lease keeper: makes this instance a member, renews its lease, and takes its fair share of the lanes."""

import os
import secrets
import socket
from collections.abc import Callable
from typing import Final

import structlog

from outboxd.clock import boottime
from outboxd.errors import LeaseLostError
from outboxd.holds import HoldBook
from outboxd.lanes import LaneBook, fair_share
from outboxd.model import LANES
from outboxd.ports import LeaseStore, LeaseView
from outboxd.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

RENEWALS: Final = 5
"""How often a lease is renewed within its time to live."""


class Lease:
    """The instance's own belief in its lease. It is held until a moment by CLOCK_BOOTTIME, and not longer."""

    def __init__(self, clock: Callable[[], float] = boottime, *, margin: float = 0.0) -> None:
        """`margin`: by how many seconds it is trusted less than the database grants it."""
        self._clock = clock
        self._margin = margin
        self._until: float | None = None
        self._lapsed = False
        self.instance = ""

    @property
    def trusted(self) -> bool:
        """Whether what needs the lease may be done now."""
        return self._until is not None and self._clock() < self._until

    def extend(self, instance: str, until: float) -> None:
        """The database granted the lease; `until` counts from before it was asked."""
        self.instance, self._until = instance, until
        self._lapsed = self._lapsed and not self.trusted

    def lapsed(self) -> bool:
        """Whether the lanes may be another's by now, while nobody has noticed; tells it once."""
        if self._until is None or self._lapsed or self._clock() < self._until + self._margin:
            return False
        self._lapsed = True
        return True

    def end(self) -> None:
        """It is given back, or lost."""
        self._until = None

    def require(self) -> str:
        """The instance's id. Raises LeaseLostError when the lease is not held."""
        if not self.trusted:
            raise LeaseLostError("the lease is not held")
        return self.instance


class LeaseKeeper:
    """The worker. `ttl` and `margin` in seconds; `name` is the operator's choice, or empty."""

    name = "lease"

    def __init__(
        self,
        leases: LeaseStore,
        lease: Lease,
        book: LaneBook,
        holds: HoldBook,
        metrics: Metrics,
        *,
        source: str,
        ttl: float,
        margin: float,
        first_batch: int,
        instance_name: str = "",
    ) -> None:
        self._leases = leases
        self._lease = lease
        self._book = book
        self._holds = holds
        self._metrics = metrics
        self._ttl = ttl
        self._margin = margin
        self._first_batch = first_batch
        self._instance_name = instance_name
        self.lanes_changed: Callable[[], None] = lambda: None
        """Called when lanes came or went, and when those that there are may be used again."""
        self.report: Callable[[], str] = lambda: "{}"
        """What this instance says of itself, as a JSON object; operators see it."""
        self._member = False
        self._refused = False
        self._log = log.bind(source=source)

    async def run_once(self) -> float:
        """One heartbeat."""
        if not self._member:
            # What an earlier lease left behind is settled first, or it would be read twice.
            if not self._book.idle:
                return 0.05
            await self._join()
            if not self._member:
                return min(1.0, self._ttl / RENEWALS)
        else:
            await self._renew()
            if not self._member:
                return 0.0
        view = await self._leases.view(self._lease.instance)
        if view.expired:
            view = await self._evict()
        return self._next_beat(await self._balance(view))

    async def _evict(self) -> LeaseView:
        evicted = await self._leases.evict_expired(self._lease.instance)
        if evicted:
            self._log.warning("lease.evicted", instances=evicted)
        return await self._leases.view(self._lease.instance)

    def _next_beat(self, view: LeaseView) -> float:
        beat = self._ttl / RENEWALS
        if view.next_expiry is None:
            return beat
        return min(beat, max(0.02, view.next_expiry + 0.02))

    async def _join(self) -> None:
        # Each lease has an id of its own: one that was lost can never pass for the one that followed under its name.
        name = self._instance_name or f"{socket.gethostname()[:40]}-{os.getpid()}"
        instance = f"{name}-{secrets.token_hex(3)}"
        if self._lease.instance:
            # Its former self did not die: nothing of it is in flight any more, so no event is suspect.
            await self._leases.deregister(self._lease.instance)
        await self._leases.evict_expired(instance)
        asked = boottime()
        try:
            await self._leases.register(instance, self._instance_name or None, self._ttl)
        except LeaseLostError as error:
            if not self._refused:
                self._log.error("lease.refused", reason=str(error), cure="give each daemon a name of its own, or none")
            self._refused = True
            return
        self._refused = False
        self._lease.extend(instance, asked + self._ttl - self._margin)
        self._member = True
        self._log.info("lease.joined", instance=instance)

    async def _renew(self) -> None:
        instance, asked = self._lease.instance, boottime()
        try:
            await self._leases.renew(instance, self._ttl, self.report())
        except LeaseLostError as error:
            self._drop(str(error))
            return
        resumed = not self._lease.trusted
        self._lease.extend(instance, asked + self._ttl - self._margin)
        if resumed:
            # The database still held it, but here it had run out: what was dropped meanwhile stays dropped.
            self._log.warning("lease.resumed", instance=instance)
            self.lanes_changed()

    def _drop(self, reason: str) -> None:
        self._log.warning("lease.lost", instance=self._lease.instance, reason=reason)
        self._lease.end()
        self._member = False
        self._book.disown_all()
        self._metrics.lanes_owned(0)

    async def _balance(self, view: LeaseView) -> LeaseView:
        """Takes free lanes up to the fair share, or gives back what is above it and free."""
        instance = self._lease.instance
        share = fair_share(instance, view.members, LANES)
        mine = len(view.lanes)
        before = self._book.owned
        surplus = self._book.surrender(max(0, mine - share))
        if surplus:
            await self._leases.give_back(instance, surplus)
            view = await self._leases.view(instance)
        elif mine < share:
            await self._leases.take(instance, share - mine)
            view = await self._leases.view(instance)
        gone = set(before) - {grant.lane for grant in view.lanes}
        self._book.disown(gone)
        self._holds.forget({*gone, *surplus})
        self._book.grant(view.lanes, self._first_batch)
        after = self._book.owned
        if after != before:
            self._log.info("lease.lanes", owned=len(after), members=len(view.members))
            self._metrics.lanes_owned(len(after))
            self.lanes_changed()
        return view

    async def leave(self) -> None:
        """Gives all lanes back and ends the lease. Nothing may be in flight any more."""
        self._book.disown_all()
        instance, member = self._lease.instance, self._member
        self._lease.end()
        self._member = False
        if member:
            await self._leases.deregister(instance)
            self._log.info("lease.left", instance=instance)
