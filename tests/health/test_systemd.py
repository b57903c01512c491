"""systemd's protocol, against a real datagram socket in systemd's place."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from outboxd.pulse import Pulse
from outboxd.systemd import feed_watchdog, notify, watchdog_interval


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The receiving end, with NOTIFY_SOCKET set as systemd sets it."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@{uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(name.replace("@", "\0", 1) if request.param == "abstract" else name)
        receiver.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield receiver


def test_each_state_is_said_in_systemds_words(systemd: socket.socket) -> None:
    """READY, STOPPING, WATCHDOG and STATUS arrive as their assignments, together in one message."""
    assert notify(ready=True, status="64 lanes")
    assert systemd.recv(1000) == b"READY=1\nSTATUS=64 lanes"
    assert notify(stopping=True)
    assert systemd.recv(1000) == b"STOPPING=1"
    assert notify(watchdog=True)
    assert systemd.recv(1000) == b"WATCHDOG=1"


def test_a_status_cannot_say_anything_else(systemd: socket.socket) -> None:
    """A line break in a status, as an error text may have, does not begin another assignment."""
    assert notify(status="broker gone:\nREADY=1")
    assert systemd.recv(1000) == b"STATUS=broker gone: READY=1"


def test_a_systemd_that_does_not_read_blocks_nobody(systemd: socket.socket) -> None:
    """With the receiver's queue full, a notification is given up at once."""
    sent = 0
    while notify(status="x" * 1000):
        sent += 1
        assert sent < 100_000
    assert not notify(watchdog=True)
    systemd.recv(2000)
    assert notify(watchdog=True)


@pytest.mark.parametrize("address", [None, "", "/nonexistent/notify", "vsock:2:1234"])
def test_without_systemd_nothing_happens(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a socket, or with one that is gone or of another kind, notifying says no and does not raise."""
    if address is None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert not notify(ready=True)


@pytest.mark.parametrize(
    ("environment", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getppid())}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
    ids=["off", "on", "on for us", "on for another process", "zero", "garbage"],
)
def test_the_watchdog_interval_is_systemds(
    environment: dict[str, str], interval: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interval is read in seconds; off, meant for another process or unreadable is none."""
    for key in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(key, raising=False)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    assert watchdog_interval() == interval


async def test_the_watchdog_is_fed_only_while_all_loops_move(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watchdog is fed several times an interval; not while a loop is stale; and again once it moves."""
    monkeypatch.setenv("WATCHDOG_USEC", "60000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    now = 0.0
    pulse = Pulse(lambda: now)
    pulse.register("relay", 10)
    loop = asyncio.get_running_loop()

    async def meal() -> None:
        assert await loop.sock_recv(systemd, 100) == b"WATCHDOG=1"

    async def meals(number: int) -> None:
        async with asyncio.timeout(60):
            for _ in range(number):
                await meal()

    async def hungry(seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await meal()
        except TimeoutError:
            return True
        return False

    feeding = asyncio.create_task(feed_watchdog(pulse))
    await meals(2)
    now, stale_since = 11.0, loop.time()
    while not await hungry(0.05):  # what was under way
        assert loop.time() - stale_since < 60
    assert await hungry(0.3)
    pulse.beat("relay")
    await meals(2)
    feeding.cancel()


async def test_without_a_watchdog_feeding_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """When systemd's watchdog is off there is nothing to feed."""
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    await asyncio.wait_for(feed_watchdog(Pulse()), 1)
