"""The bare loop: the least that delivers an outbox in order, and so the limit that outboxd is measured against.

It reads rows of free lanes without a lock, sends them as one batch per partition, and settles them by one UPDATE;
several batches are in flight. It has no leases, retries, holds, limits, metrics or checks: a ruler, not a relay.
"""

import argparse
import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import pymysql
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2
from sqlalchemy.engine import make_url

BATCH_SIZE: Final = 2000
IN_FLIGHT: Final = 3
POLL_INTERVAL: Final = 0.05
BATCH_BYTES: Final = 512 * 1024
READ_BUFFER: Final = 256 * 1024
"""Bytes read from the database's socket at once, as the daemon does: PyMySQL reads by 8 KiB."""
READY: Final = "ready"
"""What it prints when it is connected."""

READ: Final = (
    "SELECT id, lane, event_id, event_type, aggregate_type, aggregate_id, topic, payload "
    "FROM outbox_events FORCE INDEX (idx_relay) WHERE status = 0 AND lane IN ({lanes}) "
    "ORDER BY lane, next_attempt_at, id LIMIT {limit}"
)
SETTLE: Final = "UPDATE outbox_events SET status = 1 WHERE id IN ({ids}) AND status = 0"

Row = tuple[int, int, bytes, bytes, bytes, bytes, bytes, bytes]
"""As READ selects it. Text stays in bytes: nothing here looks into it."""
Target = tuple[str, int]
"""A topic and a partition."""
T = TypeVar("T")


def connect(url: str) -> "pymysql.Connection[Any]":
    """A raw connection that leaves text as bytes."""
    parsed = make_url(url)
    connection = pymysql.connect(
        host=parsed.host,
        port=parsed.port or 3306,
        user=parsed.username,
        password=parsed.password or "",
        database=parsed.database,
        autocommit=True,
        charset="utf8mb4",
        use_unicode=False,
        init_command="SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    )
    connection._rfile = connection._sock.makefile("rb", READ_BUFFER)
    return connection


class Database:
    """One connection and the thread that uses it."""

    def __init__(self, url: str, batch_size: int) -> None:
        self._batch_size = batch_size
        self._cursor = connect(url).cursor()
        self._thread = ThreadPoolExecutor(max_workers=1)

    async def read(self, lanes: Iterable[int]) -> tuple[Row, ...]:
        """The next rows of these lanes."""
        return await self._run(lambda: self._fetch(READ.format(lanes=join(lanes), limit=self._batch_size)))

    async def settle(self, rows: Iterable[Row]) -> None:
        """Marks rows as sent."""
        await self._run(lambda: self._cursor.execute(SETTLE.format(ids=join(row[0] for row in rows))))

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _fetch(self, statement: str) -> tuple[Row, ...]:
        self._cursor.execute(statement)
        rows: tuple[Row, ...] = self._cursor.fetchall()
        return rows


def join(numbers: Iterable[int]) -> str:
    """`1,2,3`."""
    return ",".join(map(str, numbers))


class BareLoop:
    """Delivers until the table is empty, or for ever."""

    def __init__(self, reader: Database, settler: Database, producer: AIOKafkaProducer) -> None:
        self._reader = reader
        self._settler = settler
        self._producer = producer
        self._free = set(range(64))
        self._targets: dict[tuple[bytes, bytes], Target] = {}

    async def run(self, *, until_empty: bool) -> None:
        """Reads as long as there is room for a batch."""
        in_flight: set[asyncio.Task[None]] = set()
        while True:
            rows = await self._reader.read(self._free) if self._free else ()
            if rows:
                in_flight.add(asyncio.create_task(self._deliver(rows)))
                await asyncio.sleep(0)
            elif until_empty and not in_flight:
                return
            if in_flight and (not rows or len(in_flight) == IN_FLIGHT):
                done, in_flight = await asyncio.wait(in_flight, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            elif not rows:
                await asyncio.sleep(POLL_INTERVAL)

    async def _deliver(self, rows: tuple[Row, ...]) -> None:
        lanes = {row[1] for row in rows}
        self._free -= lanes
        await self._send(rows)
        await self._settler.settle(rows)
        self._free |= lanes

    async def _send(self, rows: tuple[Row, ...]) -> None:
        now_ms = int(time.time() * 1000)
        batches: dict[Target, Any] = {}
        answers = []
        for _, _, event_id, event_type, aggregate_type, aggregate_id, topic, payload in rows:
            target = self._targets.get((topic, aggregate_id)) or await self._target(topic, aggregate_id)
            batch = batches.get(target)
            if batch is None:
                batch = batches[target] = self._producer.create_batch()
            headers = [
                ("event_id", event_id),
                ("event_type", event_type),
                ("aggregate_type", aggregate_type),
                ("aggregate_id", aggregate_id),
            ]
            if batch.append(timestamp=now_ms, key=aggregate_id, value=payload, headers=headers) is None:
                answers.append(await self._producer.send_batch(batch, target[0], partition=target[1]))
                batch = batches[target] = self._producer.create_batch()
                batch.append(timestamp=now_ms, key=aggregate_id, value=payload, headers=headers)
        for (name, partition), batch in batches.items():
            answers.append(await self._producer.send_batch(batch, name, partition=partition))
        await asyncio.gather(*answers)

    async def _target(self, topic: bytes, key: bytes) -> Target:
        name = topic.decode()
        partitions = sorted(await self._producer.partitions_for(name))
        target = name, partitions[(murmur2(key) & 0x7FFFFFFF) % len(partitions)]
        self._targets[topic, key] = target
        return target


async def run(database_url: str, kafka: str, batch_size: int, *, until_empty: bool) -> None:
    """Connects, and runs the loop."""
    async with AIOKafkaProducer(
        bootstrap_servers=kafka, acks="all", enable_idempotence=True, linger_ms=0, max_batch_size=BATCH_BYTES
    ) as producer:
        reader, settler = Database(database_url, batch_size), Database(database_url, batch_size)
        print(READY, flush=True)
        await BareLoop(reader, settler, producer).run(until_empty=until_empty)


def main() -> None:
    """`python -m bench.bare_loop`."""
    parser = argparse.ArgumentParser(prog="python -m bench.bare_loop", description=__doc__)
    parser.add_argument("--database-url", required=True)
    parser.add_argument("--kafka", required=True, metavar="HOST:PORT")
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE, help="rows [default: %(default)s]")
    parser.add_argument("--until-empty", action="store_true", help="end when everything is sent and settled")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.database_url, arguments.kafka, arguments.batch_size, until_empty=arguments.until_empty))


if __name__ == "__main__":
    main()
