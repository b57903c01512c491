"""The broker and the topic: embedded, or the user's own."""

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import confluent_kafka
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from outboxd.config.kafka import KafkaSettings
from outboxd.demo.broker import READY
from outboxd.demo.child import PYTHON, BrokenError, Child

STARTING: Final = 20.0
ANSWER: Final = 10.0
PARTITIONS: Final = 6
EMBEDDED: Final = {"allow.auto.create.topics": "true", "fetch.wait.max.ms": "5"}
"""What a consumer of the mock cluster needs: it makes topics when they are asked for, and it answers a fetch that finds
nothing only after the time given (a real broker, when something comes)."""


class EmbeddedKafka:
    """librdkafka's mock cluster in a process of its own. Starts at once; raises BrokenError."""

    def __init__(self, folder: Path) -> None:
        self._child = Child("the embedded Kafka", [*PYTHON, "outboxd.demo.broker"], folder / "kafka.log")
        try:
            self.bootstrap = self._child.wait_for(self._address, STARTING)
            """Its `bootstrap.servers`."""
        except BaseException:
            self.stop()
            raise

    @property
    def version(self) -> str:
        """That of the library which it is a part of."""
        return f"librdkafka {confluent_kafka.libversion()[0]}"

    def check(self) -> None:
        """Raises BrokenError when it has ended."""
        self._child.check()

    def stop(self) -> None:
        """Ends it."""
        self._child.stop(0)

    def _address(self) -> str | None:
        found = (line.removeprefix(READY) for line in self._child.lines if line.startswith(READY))
        return next(found, None)


def client_settings(settings: KafkaSettings) -> dict[str, Any]:
    """outboxd's settings in librdkafka's words."""
    given = {
        "bootstrap.servers": ",".join(settings.bootstrap_servers),
        "security.protocol": settings.security_protocol,
        "ssl.ca.location": settings.tls_ca,
        "ssl.certificate.location": settings.tls_cert,
        "ssl.key.location": settings.tls_key,
        "sasl.mechanism": settings.sasl_mechanism,
        "sasl.username": settings.sasl_username,
        "sasl.password": settings.sasl_password.get_secret_value(),
        "log_level": "0",  # else it would write across the progress bars
    }
    return {key: str(value) for key, value in given.items() if value}


class Topic:
    """A topic of the user's own cluster, for the time of the demo."""

    def __init__(self, client: Mapping[str, Any], name: str) -> None:
        """Creates it. Raises BrokenError when the cluster does not answer or does not allow it."""
        self._admin = AdminClient(dict(client))
        self._name = name
        self._ask(self._admin.create_topics([NewTopic(name, PARTITIONS, -1)])[name], "cannot be created")
        try:
            self._await_leaders()
        except BaseException:
            with suppress(BrokenError):
                self.delete()
            raise

    def delete(self) -> None:
        """Deletes it. Raises BrokenError."""
        self._ask(self._admin.delete_topics([self._name])[self._name], "cannot be deleted; it is of no more use")

    def _ask(self, answer: Any, problem: str) -> None:
        try:
            answer.result(ANSWER)
        except KafkaException as error:
            raise BrokenError(f"the topic {self._name} {problem}: {error.args[0].str()}") from error
        except TimeoutError as error:
            raise BrokenError(f"the topic {self._name} {problem}: no answer from --kafka in {ANSWER:.0f} s") from error

    def _await_leaders(self) -> None:
        deadline = time.monotonic() + ANSWER
        while time.monotonic() < deadline:
            found = self._admin.list_topics(self._name, timeout=ANSWER).topics[self._name]
            leaders = [partition.leader >= 0 for partition in found.partitions.values()]
            if len(leaders) == PARTITIONS and all(leaders):
                return
            time.sleep(0.05)
        raise BrokenError(f"the topic {self._name} has no leaders yet after {ANSWER:.0f} s")
