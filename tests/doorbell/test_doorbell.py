"""The doorbell against real servers: it rings again after whatever happens to them, and says what is missing."""

import asyncio
from contextlib import closing
from dataclasses import replace

import pytest

from outboxd.store.binlog import doorbell, stream
from outboxd.store.engine import ConnectOptions
from tests.conftest import Database
from tests.doorbell.conftest import Hang, HeardBell, begin_log_anew, kill_streams
from tests.end_to_end.application import Ledger, insert
from tests.servers.sql import SqlServer

QUIETLY = ConnectOptions(connect_timeout=2)


def write(outbox: Database) -> None:
    """One event."""
    with closing(outbox.connect()) as connection:
        insert(connection, Ledger(), "order-1", "orders")


async def rings(bell: HeardBell, outbox: Database) -> None:
    """Returns when the bell rings for an event that is written now."""
    before = bell.rings
    await asyncio.to_thread(write, outbox)
    await bell.until(lambda bell: bell.rings > before)


async def hangs_for(bell: HeardBell, seconds: float) -> None:
    """Returns when it is hung and has been for so long, without a word."""
    loop = asyncio.get_running_loop()
    said, since = len(bell.said), loop.time()

    def long_enough(bell: HeardBell) -> bool:
        nonlocal said, since
        if len(bell.said) != said:
            said, since = len(bell.said), loop.time()
        return bell.said[-1].startswith("hung") and loop.time() - since > seconds

    await bell.until(long_enough)


async def test_two_at_once_ring_and_stop(outbox: Database, hang: Hang) -> None:
    """Neither ends the other's stream, as two replicas of the same id would."""
    one, two = hang(outbox.url), hang(outbox.url)
    await one.until(lambda _: one.hangs and two.hangs)
    for _ in range(3):
        await asyncio.gather(rings(one, outbox), rings(two, outbox))
    assert (one.said, two.said) == (["hung ROW"], ["hung ROW"])


async def test_its_connection_is_killed(outbox: Database, hang: Hang) -> None:
    """It says so once, and is hung again."""
    bell = hang(outbox.url)
    await bell.until(lambda bell: bell.hangs)
    kill_streams(outbox.server)
    await bell.until(lambda bell: bell.hangs >= 2)
    await rings(bell, outbox)


async def test_the_server_crashes(outbox: Database, hang: Hang) -> None:
    """kill -9, and a start."""
    bell = hang(outbox.url, QUIETLY)
    await bell.until(lambda bell: bell.hangs)
    await rings(bell, outbox)
    await asyncio.to_thread(outbox.server.kill)
    await bell.until(lambda bell: len(bell.said) > 1)
    await asyncio.to_thread(outbox.server.start)
    await bell.until(lambda bell: bell.hangs >= 2)
    await rings(bell, outbox)


async def test_the_log_is_another(outbox: Database, hang: Hang) -> None:
    """Old files are purged; then files and numbers of transactions begin again, as behind a failover."""
    bell = hang(outbox.url)
    await bell.until(lambda bell: bell.hangs)
    outbox.server.query("FLUSH BINARY LOGS")
    await rings(bell, outbox)
    newest = outbox.server.query("SHOW BINARY LOGS")[-1][0]
    outbox.server.query(f"PURGE BINARY LOGS TO '{newest}'")
    await rings(bell, outbox)
    begin_log_anew(outbox.server)
    kill_streams(outbox.server)
    await bell.until(lambda bell: bell.hangs >= 2)
    await rings(bell, outbox)


async def test_with_gtids_and_without(outbox: Database, hang: Hang) -> None:
    """Both servers have them by default. MySQL's, which 8.4 has not, are switched off and on: the stream goes on."""
    mariadb = outbox.server.product == "mariadb"
    gtids = "SELECT @@gtid_binlog_pos" if mariadb else "SELECT @@gtid_executed"
    bell = hang(outbox.url)
    await bell.until(lambda bell: bell.hangs)
    before = outbox.server.query(gtids)
    await rings(bell, outbox)
    assert outbox.server.query(gtids) != before
    steps = () if mariadb else ("ON_PERMISSIVE", "OFF_PERMISSIVE", "OFF", "OFF_PERMISSIVE", "ON_PERMISSIVE", "ON")
    for mode in steps:
        outbox.server.query(f"SET GLOBAL gtid_mode = {mode}")
        await rings(bell, outbox)
    assert bell.said == ["hung ROW"]


async def test_a_server_that_is_frozen(outbox: Database, hang: Hang, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats keep a silent connection; one without them is lost."""
    monkeypatch.setattr(stream, "HEARTBEAT", 0.2)
    monkeypatch.setattr(stream, "SILENCE", 1.0)
    monkeypatch.setattr(doorbell, "SILENCE", 1.0)
    bell = hang(outbox.url, QUIETLY)
    await bell.until(lambda bell: bell.hangs)
    # Without heartbeats it never hangs for so long, and a machine that stalls does not prevent it for ever.
    await hangs_for(bell, 1.5)
    before, hangs = len(bell.said), bell.hangs
    outbox.server.pause()
    try:
        await bell.until(lambda bell: len(bell.said) > before)
    finally:
        outbox.server.resume()
    await bell.until(lambda bell: bell.hangs > hangs)
    await rings(bell, outbox)


async def test_privileges_that_are_missing_and_then_granted(outbox: Database, hang: Hang) -> None:
    """Each that is missing is told with the cure. Where the server has TLS, the user must use it."""
    query, user = outbox.server.query, "'ringer'@'%'"
    tls = outbox.server.product == "mysql"
    query(f"DROP USER IF EXISTS {user}")
    query(f"CREATE USER {user} IDENTIFIED BY 'pass'" + (" REQUIRE SSL" if tls else ""))
    bell = hang(
        outbox.server.url(user="ringer", password="pass"),
        replace(QUIETLY, tls="required" if tls else "disabled"),
    )
    cured = "`outboxd grants` prints what is needed"
    await bell.until(lambda bell: any(cured in line for line in bell.said))
    query(f"GRANT REPLICATION CLIENT ON *.* TO {user}")
    await bell.until(lambda bell: any("REPLICATION SLAVE" in line and cured in line for line in bell.said))
    query(f"GRANT REPLICATION SLAVE ON *.* TO {user}")
    await bell.until(lambda bell: bell.hangs)
    query(f"DROP USER {user}")


async def test_a_server_without_a_log(mariadb: SqlServer, hang: Hang) -> None:
    """MariaDB as it is by default."""
    bell = hang(mariadb.url())
    await bell.until(lambda bell: bell.said)
    assert bell.said[0].startswith("the server writes no binary log; start it with log_bin, or write doorbell.kind")
