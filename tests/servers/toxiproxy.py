"""Shopify's toxiproxy: a TCP proxy that spoils connections as it is told. Built by Go, from the Go module proxy."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import httpx

from tests.servers.cache import CACHE, UnavailableError, fill, recorded
from tests.servers.server import Server, free_port

VERSION = "2.12.0"
_PACKAGE = f"github.com/Shopify/toxiproxy/v2/cmd/server@v{VERSION}"
_USUAL_PLACES = "/usr/local/go/bin:/usr/lib/go/bin:/snap/bin"

Stream = Literal["upstream", "downstream"]
"""`upstream`: from the client to the server; `downstream`: what the server answers."""


def provide() -> str:
    """Builds it. Returns where it is."""
    return str(fill(f"toxiproxy-{VERSION}", _build) / "server")


def _build(folder: Path) -> None:
    go = shutil.which("go") or shutil.which("go", path=_USUAL_PLACES)
    if go is None:
        raise UnavailableError("no Go 1.23 or later to build toxiproxy with (https://go.dev/dl, unpack to /usr/local)")
    print(f"  building toxiproxy {VERSION} (half a minute)", flush=True)
    environment = os.environ | {"GOBIN": str(folder), "CGO_ENABLED": "0"}
    done = subprocess.run([go, "install", _PACKAGE], env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no output"]
        raise UnavailableError(f"go install failed: {lines[-1]}; it needs Go 1.23 or later and the Go module proxy")


class Proxy:
    """One listening port, and the server behind it."""

    def __init__(self, api: httpx.Client, name: str, port: int) -> None:
        self._api = api
        self._path = f"/proxies/{name}"
        self.port = port

    def spoil(self, kind: str, stream: Stream = "downstream", *, toxicity: float = 1.0, **attributes: int) -> None:
        """Adds a toxic to its connections: latency, bandwidth, slow_close, timeout, reset_peer, limit_data."""
        toxic = {"type": kind, "stream": stream, "toxicity": toxicity, "attributes": attributes}
        self._api.post(f"{self._path}/toxics", json=toxic).raise_for_status()

    def heal(self) -> None:
        """As at the start: it listens, and has no toxics."""
        for toxic in self._api.get(self._path).raise_for_status().json()["toxics"]:
            self._api.delete(f"{self._path}/toxics/{toxic['name']}").raise_for_status()
        self._enable(True)

    def cut(self) -> None:
        """Closes its connections, and refuses new ones until `heal`."""
        self._enable(False)

    def _enable(self, enabled: bool) -> None:
        self._api.post(self._path, json={"enabled": enabled}).raise_for_status()


class Toxiproxy(Server):
    """The process with all proxies."""

    name = "toxiproxy"

    def __init__(self) -> None:
        """Raises UnavailableError when it was not provided."""
        self._program = CACHE / f"toxiproxy-{VERSION}" / "server"
        if not self._program.exists():
            raise UnavailableError(recorded(self.name) or "toxiproxy is not in the cache: run `make servers`")
        super().__init__()
        self._port = free_port()
        self._api = httpx.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=10, trust_env=False)

    @property
    def version(self) -> str:
        """The one that was built; a server that `go install` built calls itself `git`."""
        return VERSION

    def proxy(self, name: str, upstream: int, port: int | None = None) -> Proxy:
        """A new proxy before a port of this machine; it listens on `port`, or any free one."""
        port = port or free_port()
        wanted = {"name": name, "listen": f"127.0.0.1:{port}", "upstream": f"127.0.0.1:{upstream}", "enabled": True}
        self._api.post("/proxies", json=wanted).raise_for_status()
        return Proxy(self._api, name, port)

    def _prepare(self) -> None:
        """It keeps nothing on disk."""

    def _command(self) -> Sequence[str | Path]:
        return [self._program, "-host", "127.0.0.1", "-port", str(self._port)]

    def _ready(self) -> bool:
        try:
            return self._api.get("/version").is_success
        except httpx.TransportError:
            return False
