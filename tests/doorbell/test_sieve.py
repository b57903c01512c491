"""What the sieve hears of in the logs of real servers: inserts into the table, and what it cannot look into."""

from collections.abc import Callable, Iterator
from contextlib import closing
from io import BytesIO

import pytest
from pymysqlreplication.constants import BINLOG

from outboxd.store.binlog.sieve import Heard, Sieve
from outboxd.store.binlog.stream import Stream
from outboxd.store.engine import open_engine
from tests.conftest import Database
from tests.end_to_end.application import Ledger, insert

HearUntil = Callable[[Heard], list[Heard]]


@pytest.fixture
def hear_until(outbox: Database) -> Iterator[HearUntil]:
    """`hear_until(last)`: what the log tells up to the first `last`, which a statement at the end sees to."""
    stream = Stream(open_engine(outbox.url), lambda: None)
    sieve = stream.open("bell", "outbox_events")

    def heard(last: Heard) -> list[Heard]:
        if last is Heard.UNCLEAR:
            outbox.server.query("DROP TABLE IF EXISTS bell.nothing")
        else:
            with closing(outbox.connect()) as connection:
                insert(connection, Ledger(), "order-1", "orders")
        found = []
        while last not in found:
            found.append(sieve.next())
        return found[:-1]

    yield heard
    stream.close()


def test_inserts_are_heard_of_and_nothing_else(outbox: Database, hear_until: HearUntil) -> None:
    """Not a settle, not a deletion, not another table of this name, not what was rolled back."""
    ledger = Ledger()
    with closing(outbox.connect()) as connection, connection.cursor() as cursor:
        for _ in range(3):
            insert(connection, ledger, "order-1", "orders")
            cursor.execute("UPDATE outbox_events SET status = 1")
            cursor.execute("INSERT INTO bell_2.outbox_events VALUES (1)")
            cursor.execute("INSERT INTO outbox_events_2 VALUES (1)")
            connection.begin()
            insert(connection, ledger, "order-1", "orders")
            connection.rollback()
        connection.begin()
        cursor.execute("INSERT INTO other (body) VALUES ('x')")
        insert(connection, ledger, "order-1", "orders")
        insert(connection, ledger, "order-2", "orders")
        cursor.execute("UPDATE outbox_events SET status = 1")
        connection.commit()
        cursor.execute("DELETE FROM outbox_events")
    assert hear_until(Heard.UNCLEAR) == [Heard.INSERT] * 4


def test_rows_larger_than_a_packet_of_the_protocol(outbox: Database, hear_until: HearUntil) -> None:
    """What goes on in a second packet, of another table and of ours, is passed over; what follows is heard of."""
    outbox.server.query("SET GLOBAL max_allowed_packet = 64 * 1024 * 1024")
    ledger = Ledger()
    with closing(outbox.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO other (body) VALUES (REPEAT('x', 20000000))")
        insert(connection, ledger, "order-1", "orders", size=20_000_000)
        insert(connection, ledger, "order-1", "orders")
        cursor.execute("DELETE FROM other")
    assert hear_until(Heard.UNCLEAR) == [Heard.INSERT] * 2


def test_a_compressed_log(outbox: Database, hear_until: HearUntil) -> None:
    """MariaDB compresses rows, MySQL whole transactions: there, all that is known is that there was one."""
    mariadb = outbox.server.product == "mariadb"
    setting = "GLOBAL log_bin_compress" if mariadb else "SESSION binlog_transaction_compression"
    with closing(outbox.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(f"SET {setting} = ON")
        insert(connection, Ledger(), "order-1", "orders", size=2000)
        cursor.execute(f"SET {setting} = OFF")
    assert hear_until(Heard.INSERT) == ([] if mariadb else [Heard.UNCLEAR])
    assert hear_until(Heard.INSERT) == []


def test_what_is_logged_as_a_statement(outbox: Database, hear_until: HearUntil) -> None:
    """Without the format ROW, and at the end of an XA transaction, something unclear is heard of."""
    with closing(outbox.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION binlog_format = STATEMENT")
        insert(connection, Ledger(), "order-1", "orders")
        assert hear_until(Heard.INSERT) == [Heard.UNCLEAR]
        cursor.execute("SET SESSION binlog_format = ROW")
        cursor.execute("XA START 'one'")
        insert(connection, Ledger(), "order-1", "orders")
        for step in ("END", "PREPARE", "COMMIT"):
            cursor.execute(f"XA {step} 'one'")
    assert Heard.UNCLEAR in hear_until(Heard.INSERT)


def test_names_are_compared_as_servers_do_that_ignore_case() -> None:
    """Also of letters beyond ASCII: such a server writes the name in lower case, whatever the URL says."""
    names = b"".join(bytes([len(name)]) + name + b"\0" for name in ("ünit".encode(), b"outbox_events"))
    log = packet(BINLOG.TABLE_MAP_EVENT, b"123456\0\0" + names)
    log += packet(BINLOG.WRITE_ROWS_EVENT_V2, b"123456\0\0") + packet(BINLOG.XID_EVENT, b"12345678")
    assert Sieve(BytesIO(log).read, "Ünit", "outbox_events").next() is Heard.INSERT


def packet(kind: int, body: bytes) -> bytes:
    """An event as the server sends it: a length, a number, a zero, then the event's head."""
    head = b"\0" * 4 + bytes([kind]) + b"\0" * 14
    return (1 + len(head) + len(body)).to_bytes(3, "little") + b"\1\0" + head + body
