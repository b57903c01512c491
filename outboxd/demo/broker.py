"""`python -m outboxd.demo.broker`: an embedded Kafka, librdkafka's mock cluster. Prints where it is, and serves."""

import sys
from typing import Final

from confluent_kafka import Producer

READY: Final = "embedded Kafka: "


def main() -> None:
    """Serves until it is killed. Topics appear when they are first asked for, with four partitions."""
    cluster = Producer({"bootstrap.servers": "unused", "test.mock.num.brokers": 1, "log_level": 0})
    members = cluster.list_topics(timeout=10).brokers.values()
    sys.stdout.write(READY + ",".join(f"{member.host}:{member.port}" for member in members) + "\n")
    sys.stdout.flush()
    while True:
        cluster.poll(1)


if __name__ == "__main__":
    main()
