"""A TCP proxy in front of a database that counts, refuses, and cuts a connection at an exact statement."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.servers.server import free_port

_HEADER = 4
_COM_QUERY = 3


@dataclass
class Cut:
    """Which statements are cut. `executed`: behind the server's answer, which is not passed on; else before it."""

    statement: re.Pattern[bytes]
    executed: bool
    times: int
    """How many are still to be cut."""


@dataclass(eq=False)
class _Link:
    """One connection, from the client to the server."""

    client: socket.socket
    server: socket.socket
    answer_is_lost: threading.Event = field(default_factory=threading.Event)

    def close(self) -> None:
        for end in (self.client, self.server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class Proxy:
    """Passes on what it gets, and reads along what the client says; the connections must not use TLS."""

    def __init__(self, target: int) -> None:
        """`target` is the database's port on 127.0.0.1."""
        self._target = target
        self._links: set[_Link] = set()
        self._lock = threading.Lock()
        self._cut: Cut | None = None
        self.refusing = False
        """Accepts, counts, and hangs up."""
        self._refusals = 0
        self.accepted = 0
        self.port = free_port()

    def cut(self, statement: str, *, executed: bool, times: int) -> Cut:
        """From now on the connection is lost at each statement that begins so, so many times."""
        self._cut = Cut(re.compile(statement.encode()), executed, times)
        return self._cut

    def refuse(self) -> None:
        """Ends all connections, and accepts none until `accept`."""
        self.refusing = True
        with self._lock:
            self._refusals += 1
            links = list(self._links)
        for link in links:
            link.close()

    def accept(self) -> None:
        """Serves again."""
        self.refusing = False

    def move(self, target: int) -> None:
        """As an address at a failover: ends all connections, and the next ones go to another port."""
        self.refuse()
        self._target = target
        self.accept()

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.refuse()

    def _listen(self) -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                client, _ = self._listener.accept()
                self.accepted += 1
                self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        refusals = self._refusals
        try:
            if self.refusing:
                raise ConnectionRefusedError
            link = _Link(client, socket.create_connection(("127.0.0.1", self._target)))
        except OSError:
            client.close()
            return
        with self._lock:
            self._links.add(link)
            missed = self._refusals != refusals
        if missed:  # `refuse` came too early to see it
            link.close()
        for pump in (self._ask, self._answer):
            threading.Thread(target=self._run, args=(pump, link), daemon=True).start()

    def _run(self, pump: object, link: _Link) -> None:
        assert callable(pump)
        with suppress(OSError):
            pump(link)
        link.close()
        with self._lock:
            self._links.discard(link)

    def _ask(self, link: _Link) -> None:
        for packet in _packets(link.client):
            if self._is_due(packet):
                assert self._cut
                if not self._cut.executed:
                    return
                link.answer_is_lost.set()
            link.server.sendall(packet)

    def _is_due(self, packet: bytes) -> bool:
        cut = self._cut
        if cut is None or packet[3] != 0 or packet[_HEADER : _HEADER + 1] != bytes([_COM_QUERY]):
            return False
        with self._lock:
            due = cut.times > 0 and cut.statement.match(packet, _HEADER + 1) is not None
            cut.times -= due
        return due

    @staticmethod
    def _answer(link: _Link) -> None:
        while data := link.server.recv(65536):
            if link.answer_is_lost.is_set():
                return
            link.client.sendall(data)


def _packets(source: socket.socket) -> Iterator[bytes]:
    buffer = bytearray()
    while data := source.recv(65536):
        buffer += data
        while len(buffer) >= _HEADER:
            size = _HEADER + int.from_bytes(buffer[:3], "little")
            if len(buffer) < size:
                break
            yield bytes(buffer[:size])
            del buffer[:size]
