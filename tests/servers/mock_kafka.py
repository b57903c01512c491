"""librdkafka's mock cluster: an embedded Kafka without Java, where behaviour of a real broker is not the question."""

import sys
from collections.abc import Sequence
from pathlib import Path

import confluent_kafka

from tests.servers.cache import CHECKOUT
from tests.servers.server import Server


class MockKafka(Server):
    """Topics appear when they are first asked for. `restart` makes a new, empty cluster on another port."""

    name = "mock Kafka"

    def __init__(self, brokers: int = 1) -> None:
        super().__init__()
        self._brokers = brokers

    @property
    def bootstrap(self) -> str:
        """The `bootstrap.servers` of a client."""
        return self._address.read_text()

    @property
    def version(self) -> str:
        """That of librdkafka, which it is a part of."""
        return f"librdkafka {confluent_kafka.libversion()[0]}"

    @property
    def _address(self) -> Path:
        return self.folder / "bootstrap"

    def _prepare(self) -> None:
        """It keeps no data."""

    def _command(self) -> Sequence[str | Path]:
        self._address.unlink(missing_ok=True)
        serve = f"from {__spec__.name} import serve; serve({self._brokers}, {str(self._address)!r})"
        return ["env", f"PYTHONPATH={CHECKOUT}", sys.executable, "-c", serve]

    def _ready(self) -> bool:
        return self._address.exists()


def serve(brokers: int, address_file: str) -> None:
    """The server process: writes its bootstrap list to a file, and serves until it is killed."""
    settings: dict[str, str | int] = {"bootstrap.servers": "unused", "test.mock.num.brokers": brokers, "log_level": 3}
    cluster = confluent_kafka.Producer(settings)
    members = cluster.list_topics(timeout=10).brokers.values()
    draft = Path(f"{address_file}.draft")
    draft.write_text(",".join(f"{member.host}:{member.port}" for member in members))
    draft.rename(address_file)
    while True:
        cluster.poll(1)
