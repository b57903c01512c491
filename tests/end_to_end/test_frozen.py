"""A daemon that is stopped past its lease and continued: it sends nothing more in a lane that it lost."""

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Database
from tests.end_to_end.application import INSERT, Ledger
from tests.end_to_end.checker import Verdict, check, consume
from tests.end_to_end.daemon import Daemon, until
from tests.servers.kafka import Kafka
from tests.servers.server import free_port

Count = Callable[..., int]

EVENTS, PAYLOAD = 12, 900_000
"""One request of this many characters does not fit into the buffers of a socket whose other end does not read."""


@dataclass
class Link:
    """A connection through the valve."""

    read: int = 0
    """Bytes that came from the daemon."""
    ended: bool = False


class Valve:
    """A proxy in front of one port that stops reading from the daemons when it is shut, and counts what it has read."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        # Else the kernel might take all of the request.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        self.port: int = self._listener.getsockname()[1]
        self._open = threading.Event()
        self._open.set()
        self.links: list[Link] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def shut(self) -> None:
        """What a daemon sends stays in the buffers in between."""
        self._open.clear()

    def open(self) -> None:
        """Reads on."""
        self._open.set()

    def close(self) -> None:
        """No more connections."""
        self._open.set()
        self._listener.close()

    @property
    def waiting(self) -> int:
        """Bytes in the kernel's hands on their way here."""
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
        fields = [line.split() for line in lines]
        return sum(int(field[4].split(":")[0], 16) for field in fields if int(field[2].split(":")[1], 16) == self.port)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                link = Link()
                self.links.append(link)
                for pump in ((client, server, link), (server, client, None)):
                    threading.Thread(target=self._pump, args=pump, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, link: Link | None) -> None:
        with suppress(OSError), closing(source), closing(sink):
            while data := source.recv(65_536):
                if link is not None:
                    link.read += len(data)
                    self._open.wait()
                sink.sendall(data)
        if link is not None:
            link.ended = True


@pytest.fixture(scope="module")
def gated() -> Iterator[tuple[Kafka, Valve]]:
    """A Kafka that sends daemons through the valve, and has a listener of its own for the checker."""
    kafka = Kafka()
    valve = Valve(port := free_port())
    kafka.settings["listeners"] += f",GATED://127.0.0.1:{port}"
    kafka.settings["advertised.listeners"] += f",GATED://127.0.0.1:{valve.port}"
    kafka.settings["listener.security.protocol.map"] = "PLAINTEXT:PLAINTEXT,GATED:PLAINTEXT,CONTROLLER:PLAINTEXT"
    kafka.settings["inter.broker.listener.name"] = "PLAINTEXT"
    with kafka, closing(valve):
        yield kafka, valve


def test_nothing_leaves_it_beyond_what_had_reached_its_socket(
    outbox: Database, gated: tuple[Kafka, Valve], count: Count
) -> None:
    """Frozen with most of a request still in its own memory: when it wakes, the rest of it is not sent."""
    kafka, valve = gated
    name, ledger = f"frozen-{outbox.name}", Ledger()
    kafka.create_topic(name, 1, max_message_bytes=40_000_000)
    settings = {
        "LEASE__TTL": "8s",
        "KAFKA__DELIVERY_TIMEOUT": "5s",
        "KAFKA__BATCH_SIZE": "32MiB",
        "KAFKA__MAX_MESSAGE_BYTES": "32MiB",
    }
    settings |= {"RELAY__BATCH_BYTES": "32MiB"}
    earlier = len(valve.links)
    with Daemon(outbox.url, f"127.0.0.1:{valve.port}", **settings) as frozen:
        frozen.wait_for("lease.lanes")
        frozen.wait_for("sink.reached")
        valve.shut()
        before = valve.links[earlier:]
        with outbox.connect() as connection:
            rows = [ledger.row("order-0", name, size=PAYLOAD) for _ in range(EVENTS)]
            with connection.cursor() as cursor:
                connection.begin()
                cursor.executemany(INSERT, rows)
                connection.commit()
            ledger.commit(rows)
        until(lambda: valve.waiting > 1_000_000, "its socket is full")
        frozen.signal(signal.SIGSTOP)
        valve.open()
        patient = settings | {"LEASE__TTL": "30s", "KAFKA__DELIVERY_TIMEOUT": "12s"}
        with Daemon(outbox.url, f"127.0.0.1:{valve.port}", **patient) as heir:
            heir.wait_for("lease.lanes", owned=64)
            until(lambda: count("status = 1") == EVENTS, "the heir delivers everything")
            assert not frozen.events("delivery.paused"), "it was frozen with the request under way"
            frozen.signal(signal.SIGCONT)
            frozen.wait_for("lease.lapsed")
            until(lambda: all(link.ended for link in before if link.read > 100_000), "its connection is cut")
            frozen.wait_for("lease.lost")
            assert heir.stop() == 0
        assert max(link.read for link in before) < EVENTS * PAYLOAD
        assert frozen.stop() == 0
    assert check(consume(kafka.bootstrap, name), ledger) == Verdict(delivered=EVENTS)
