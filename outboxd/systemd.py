"""systemd's notification protocol, sd_notify(3) and sd_watchdog_enabled(3). Does nothing where there is no systemd."""

import asyncio
import os
import socket

from outboxd.pulse import Pulse


def notify(*, ready: bool = False, stopping: bool = False, watchdog: bool = False, status: str | None = None) -> bool:
    """Tells systemd, in one message. Never blocks and never raises; returns whether systemd could be told."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    assignments = [
        word for word, said in (("READY=1", ready), ("STOPPING=1", stopping), ("WATCHDOG=1", watchdog)) if said
    ]
    if status is not None:
        assignments.append("STATUS=" + " ".join(status.splitlines()))  # a line of its own would be an assignment
    if address.startswith("@"):
        address = "\0" + address[1:]  # an abstract socket
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.setblocking(False)
        try:
            channel.sendto("\n".join(assignments).encode(errors="backslashreplace"), address)
        except OSError:
            return False
    return True


def watchdog_interval() -> float | None:
    """Seconds after which systemd kills a silent process; None when its watchdog is off, or watches another process."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) / 1e6 if microseconds.isdecimal() and int(microseconds) > 0 else None


async def feed_watchdog(pulse: Pulse) -> None:
    """Feeds systemd's watchdog for as long as all loops move; returns at once when it is off. Ends by cancellation."""
    interval = watchdog_interval()
    while interval is not None:
        if not pulse.stale():
            notify(watchdog=True)
        await asyncio.sleep(interval / 3)
