"""The HTTP server, in the daemon's own event loop. It only shows what others know already, so it never waits."""

import asyncio
import math
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Final, TypeAlias

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from outboxd.errors import OutboxdError

Checks: TypeAlias = Mapping[str, str | None]
"""What is checked, and None where it is fine, else the reason."""

GRACE: Final = 1
"""Seconds that open requests get when the server stops."""


FRESH: Final = 0.1
"""Seconds for which a page of metrics serves all who ask: to make one takes milliseconds of the event loop."""


class HealthServer:
    """Serves /metrics, /livez and /readyz. The callables answer at once, from what is known."""

    def __init__(
        self,
        host: str,
        port: int,
        metrics_page: Callable[[], tuple[bytes, str]],
        live: Callable[[], Checks],
        ready: Callable[[], Checks],
        *,
        paused: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """`paused` are the topics that stand still while others go on, and why."""
        self._address = (host, port)
        self._app = _application(metrics_page, live, ready, paused)
        self._socket: socket.socket | None = None
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that it listens on; with port 0, the one that was found free."""
        if self._socket is None:
            return self._address[1]
        port: int = self._socket.getsockname()[1]
        return port

    async def start(self) -> None:
        """Listens. Raises OutboxdError when the address cannot be had."""
        self._socket = await _listen(*self._address)
        self._server = _Server(
            uvicorn.Config(
                self._app,
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                timeout_graceful_shutdown=GRACE,
            )
        )
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]), name="http")

    async def stop(self) -> None:
        """Stops listening, within a bounded time; does nothing when it never started."""
        if self._server is None or self._task is None:
            return
        self._server.stopping.set()
        await self._task
        self._server = self._task = None


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stopping = asyncio.Event()

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Leaves the signals to the daemon."""
        return nullcontext()

    async def main_loop(self) -> None:
        """Waits. uvicorn's own loop wakes ten times a second, which an idle daemon would feel."""
        await self.on_tick(0)
        await self.stopping.wait()


def _application(
    metrics_page: Callable[[], tuple[bytes, str]],
    live: Callable[[], Checks],
    ready: Callable[[], Checks],
    paused: Callable[[], Mapping[str, str]],
) -> Starlette:
    made, made_at = (b"", ""), -math.inf

    async def metrics(_: Request) -> Response:
        nonlocal made, made_at
        now = asyncio.get_running_loop().time()
        if now - made_at > FRESH:
            made, made_at = metrics_page(), now
        page, content_type = made
        return Response(page, headers={"content-type": content_type})

    async def livez(_: Request) -> Response:
        return _verdict(live())

    async def readyz(_: Request) -> Response:
        return _verdict(ready(), paused())

    return Starlette(routes=[Route("/metrics", metrics), Route("/livez", livez), Route("/readyz", readyz)])


def _verdict(checks: Checks, paused: Mapping[str, str] | None = None) -> Response:
    """503 only where all stands still: a topic that is paused is shown, and the others go on."""
    failing = any(reason is not None for reason in checks.values())
    return JSONResponse(
        {
            "status": "failing" if failing else "ok",
            "checks": {name: "ok" if reason is None else reason for name, reason in checks.items()},
        }
        | ({"paused": dict(paused)} if paused else {}),
        status_code=503 if failing else 200,
        headers={"cache-control": "no-store"},
    )


async def _listen(host: str, port: int) -> socket.socket:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, _, _, _, address = found[0]
        return socket.create_server(address[:2], family=family, backlog=128)
    except OSError as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise OutboxdError(
            f"http.host, http.port: cannot listen on {host}:{port}: {reason}; stop the program that is there, "
            "or choose another address (port 0 takes any free one)"
        ) from error
