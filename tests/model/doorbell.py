"""A doorbell whose rings come when somebody lets them, or never. It keeps the contract of `outboxd.ports.Doorbell`."""

import asyncio
from collections.abc import Callable

from outboxd.ports import Bell


class Ring:
    """On its way to the daemon."""

    asked = False
    """It is on its way to the socket of a frozen daemon, too."""

    def __init__(self, owner: str, ring: Callable[[], None]) -> None:
        self._owner = owner
        self._ring = ring
        self.done = False

    def __str__(self) -> str:
        return f"{self._owner} hears the bell"

    def proceed(self) -> None:
        """It arrives."""
        self.done = True
        self._ring()

    def lose(self) -> None:
        """It never does."""
        self.done = True


class SimulatedDoorbell:
    """See `outboxd.ports.Doorbell`. One that was never started says nothing."""

    def __init__(self, owner: str, loop: asyncio.AbstractEventLoop) -> None:
        self._owner = owner
        self._loop = loop
        self._bell: Bell | None = None
        self._listens = False
        self._rings: list[Ring] = []

    def start(self, bell: Bell) -> None:
        self._bell = bell
        self.hang()

    def stop(self) -> None:
        self._listens = False  # what is on its way may still come

    @property
    def rings(self) -> list[Ring]:
        """What is under way."""
        self._rings = [ring for ring in self._rings if not ring.done]
        return self._rings

    def committed(self) -> None:
        """Somebody has inserted an event. Commits that nobody has heard of yet are one ring."""
        if self._listens and not self.rings:
            self._rings.append(Ring(self._owner, self.ring))

    def ring(self, *, certain: bool = True) -> None:
        """Now, whether there is a reason or not."""
        if self._bell is not None:
            self._loop.call_soon(self._bell.ring)

    def hang(self) -> None:
        """It listens from now on, and says so."""
        if self._bell is not None:
            self._listens = True
            self._loop.call_soon(self._bell.hung, "ROW")

    def fall(self, *, told: bool) -> None:
        """It listens no more; what is on its way is lost. Whether it says so depends on how the connection ends."""
        self._listens = False
        for ring in self.rings:
            ring.lose()
        if told and self._bell is not None:
            self._loop.call_soon(self._bell.lost, "the connection has ended")
