"""The servers that other tests rely on: they keep their data, they end with the run, and none is missed silently."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import OffsetSpec

from tests.conftest import Database
from tests.servers import cache
from tests.servers.kafka import Kafka


def test_a_database_server_keeps_its_data_through_a_crash(database: Database) -> None:
    """What was committed is there after kill -9, at the same address."""
    url = database.url
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE t (id INT PRIMARY KEY)")
        cursor.execute("INSERT INTO t VALUES (1)")
    database.server.kill()
    assert not database.server.running
    database.server.start()
    assert database.url == url
    assert database.server.query(f"SELECT id FROM `{database.name}`.t") == [(1,)]


def test_kafka_keeps_its_topics_through_a_crash(kafka: Kafka, topic: Callable[..., str]) -> None:
    """An acknowledged message is there after kill -9, at the same address."""
    name = topic(partitions=1)
    bootstrap = kafka.bootstrap
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(name, b"kept")
    assert producer.flush(30) == 0
    kafka.kill()
    kafka.start()
    assert kafka.bootstrap == bootstrap
    assert _end_offset(kafka, name) == 1


def test_a_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    """A test run that is killed leaves no server behind."""
    program = (
        "from tests.servers.mock_kafka import MockKafka as M; m = M(); m.start(); print(m.pid, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=cache.CHECKOUT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None
        server = int(run.stdout.readline())
        assert _alive(server)
        run.kill()
    deadline = time.monotonic() + 60
    while _alive(server) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _alive(server)


@pytest.mark.parametrize(("ci", "code", "outcome"), [("", 0, "1 skipped"), ("true", 1, "1 error")])
def test_a_missing_server_is_said_loudly(tmp_path: Path, ci: str, code: int, outcome: str) -> None:
    """Without MySQL its tests are skipped, and the run says so at its end; in CI the run fails."""
    one_test = f"{__file__}::test_a_database_server_keeps_its_data_through_a_crash[mysql]"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", one_test],
        cwd=cache.CHECKOUT,
        env=os.environ | {"OUTBOXD_TEST_CACHE": str(tmp_path), "CI": ci},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, outcome in run.stdout) == (code, True), run.stdout
    assert "NOT TESTED against MySQL: MySQL 9 is not in the cache: run `make servers`" in run.stdout


def test_a_broken_download_is_not_taken_for_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of the cache is complete, or not there."""
    monkeypatch.setattr(cache, "CACHE", tmp_path)

    def broken(folder: Path) -> None:
        (folder / "first").touch()
        raise cache.UnavailableError("the network is gone")

    with pytest.raises(cache.UnavailableError):
        cache.fill("thing", broken)
    assert list(tmp_path.iterdir()) == []
    assert list(cache.fill("thing", lambda folder: (folder / "whole").touch()).iterdir()) == [
        tmp_path / "thing" / "whole"
    ]


NOT_YET = {KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE}


def _end_offset(kafka: Kafka, topic: str) -> int:
    """Asked again while the broker, just back, does not know yet that it leads, or in which epoch."""
    admin = kafka.admin()
    partition = TopicPartition(topic, 0)
    deadline = time.monotonic() + 60
    while True:
        try:
            return int(admin.list_offsets({partition: OffsetSpec.latest()})[partition].result(30).offset)
        except KafkaException as error:
            if error.args[0].code() not in NOT_YET or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _alive(pid: int) -> bool:
    """Whether the process runs; one that nobody has waited for yet does not."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"
