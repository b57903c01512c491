"""The HTTP endpoint, asked over real connections."""

import asyncio
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping

import httpx
import pytest

from outboxd.errors import OutboxdError
from outboxd.health.server import HealthServer


class Daemon:
    """What the server asks."""

    def __init__(self) -> None:
        self.live: Mapping[str, str | None] = {"relay": None}
        self.ready: Mapping[str, str | None] = {"database": None, "broker": None}
        self.server = self.another(0)

    def another(self, port: int, host: str = "127.0.0.1") -> HealthServer:
        return HealthServer(host, port, lambda: (b"up 1\n", "text/x-page"), lambda: self.live, lambda: self.ready)


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    daemon = Daemon()
    await daemon.server.start()
    yield daemon
    await daemon.server.stop()


@pytest.fixture
async def client(daemon: Daemon) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{daemon.server.port}") as client:
        yield client


@pytest.mark.parametrize(("path", "checks"), [("/livez", "live"), ("/readyz", "ready")])
async def test_health_follows_the_checks(daemon: Daemon, client: httpx.AsyncClient, path: str, checks: str) -> None:
    """200 and `ok` while every check is fine; 503 with the reason as soon as one is not; 200 again afterwards."""
    setattr(daemon, checks, {"broker": None, "database": None})
    answer = await client.get(path)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "checks": {"broker": "ok", "database": "ok"}})
    setattr(daemon, checks, {"broker": "not reachable since 12:00", "database": None})
    answer = await client.get(path)
    assert answer.status_code == 503
    assert answer.json() == {"status": "failing", "checks": {"broker": "not reachable since 12:00", "database": "ok"}}
    setattr(daemon, checks, {"broker": None})
    assert (await client.get(path)).status_code == 200


async def test_not_ready_is_not_dead(daemon: Daemon, client: httpx.AsyncClient) -> None:
    """A broker that is gone makes the daemon unready, not dead: nobody restarts it for that."""
    daemon.ready = {"broker": "gone"}
    assert [(await client.get(path)).status_code for path in ("/livez", "/readyz")] == [200, 503]


async def test_metrics_are_served_as_rendered(client: httpx.AsyncClient) -> None:
    """/metrics is the page with its own content type."""
    answer = await client.get("/metrics")
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, b"up 1\n", "text/x-page")


async def test_there_is_nothing_else(client: httpx.AsyncClient) -> None:
    """Other paths are not found, and nothing can be posted."""
    assert (await client.get("/docs")).status_code == 404
    assert (await client.post("/livez")).status_code == 405


async def test_an_address_in_use_is_one_clear_line(daemon: Daemon) -> None:
    """A port that is taken is refused with the keys, the address and the cure, in one line."""
    port = daemon.server.port
    with pytest.raises(OutboxdError) as error:
        await daemon.another(port).start()
    assert str(error.value) == (
        f"http.host, http.port: cannot listen on 127.0.0.1:{port}: Address already in use; stop the program that is "
        "there, or choose another address (port 0 takes any free one)"
    )


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"], ids=["unknown name", "not ours"])
async def test_an_address_that_is_not_ours_is_refused(daemon: Daemon, host: str) -> None:
    """A host that cannot be resolved or is another machine's is refused in the same way."""
    with pytest.raises(OutboxdError, match=rf"^http.host, http.port: cannot listen on {host}:0: \w+"):
        await daemon.another(0, host).start()


async def test_the_daemon_keeps_its_signal_handlers(daemon: Daemon, client: httpx.AsyncClient) -> None:
    """Serving installs no handler for SIGTERM or SIGINT."""
    before = Daemon()
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    await before.server.start()
    await client.get(f"http://127.0.0.1:{before.server.port}/livez")
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers
    await before.server.stop()


async def test_stopping_frees_the_port_and_does_not_wait_for_clients() -> None:
    """With an idle connection and half a request open, stopping ends soon, and the port can be had again."""
    daemon = Daemon()
    await daemon.server.start()
    port = daemon.server.port
    async with httpx.AsyncClient() as idle:
        await idle.get(f"http://127.0.0.1:{port}/livez")
        with socket.create_connection(("127.0.0.1", port)) as half:
            half.sendall(b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n")
            assert await asyncio.to_thread(half.recv, 1000)  # so it is accepted
            half.sendall(b"GET /livez HTTP/1.1\r\nHo")
            started = time.monotonic()
            await daemon.server.stop()
            assert time.monotonic() - started < 30
    successor = daemon.another(port)
    await successor.start()
    await successor.stop()


async def test_stopping_what_never_ran_or_was_stopped_is_harmless() -> None:
    """`stop` may be called at any time."""
    daemon = Daemon()
    await daemon.server.stop()
    await daemon.server.start()
    await daemon.server.stop()
    await daemon.server.stop()


async def check(*arguments: str, **environment: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "outboxd.health", *arguments, env=environment, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_the_containers_check_asks_livez(daemon: Daemon) -> None:
    """`python -m outboxd.health` exits 0 while /livez is fine, else 1, and prints the answer."""
    port = str(daemon.server.port)
    assert await check(OUTBOXD_HTTP__PORT=port) == (0, '{"status":"ok","checks":{"relay":"ok"}}\n')
    daemon.live = {"relay": "overdue for 20 s"}
    assert await check(port) == (1, '{"status":"failing","checks":{"relay":"overdue for 20 s"}}\n')


async def test_the_containers_check_fails_without_a_daemon() -> None:
    """With nobody listening, or no port named, the check exits 1 and says why."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = str(reserved.getsockname()[1])
    code, output = await check(port)
    assert (code, output) == (1, f"port {port}: [Errno 111] Connection refused\n")
    code, output = await check()
    assert code == 1
    assert "OUTBOXD_HTTP__PORT" in output
