"""What is read is what stands in the table: by each driver, for good rows and for those that nobody should write."""

from typing import Any

import pytest

from outboxd.model import Event, TableNames
from outboxd.store.catalog import character_sets
from outboxd.store.engine import ConnectOptions, open_engine
from outboxd.store.rows import Events
from outboxd.store.statements import Statements
from tests.conftest import Database
from tests.end_to_end.application import INSERT, Ledger
from tests.end_to_end.bad_rows import HALF, Topics, as_stored, kinds, permissive, store

DRIVERS = ("mysql+pymysql", "mysql+mysqldb")
INLINE = 4000
TEXTS = as_stored("event_id, event_type, aggregate_type, aggregate_id, topic")
PLAIN = (
    f"SELECT id, lane, {TEXTS}, CAST(payload AS BINARY), LENGTH(payload) + COALESCE(LENGTH(headers), 0), "
    f"CAST(headers AS BINARY), {as_stored('trace_id, span_id')}, attempt_count FROM outbox_events WHERE status = 0"
)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.usefixtures("mysqlclient")
def test_rows_of_every_kind(outbox: Database, driver: str) -> None:
    """Each column, whatever is in it; payloads and headers beyond the limit are left out, and their size is told."""
    mariadb = outbox.server.product == "mariadb"
    with outbox.connect() as application, application.cursor() as cursor:
        cursor.execute(INSERT, Ledger().row("good", "orders"))
        permissive(application, mariadb=mariadb)
        for kind in kinds(Topics("orders", "oRdErS", "l" * 249, "narrow"), mariadb=mariadb):
            if len(kind.columns["payload"]) < 1_000_000:
                store(application, kind)
        cursor.execute(PLAIN)
        expected = [whole(*values) for values in cursor.fetchall()]
    found = read(outbox, driver, len(expected) + 1)
    assert len(expected) >= 50
    assert sorted(event._replace(age_us=0) for event in found) == sorted(expected)


def whole(*values: Any) -> Event:
    """The event of a row as `PLAIN` has it."""
    row_id, lane, *packed, payload, size, headers, trace, span, attempts = values
    texts, ids = [value.decode(errors="surrogateescape") for value in packed], [trace, span]
    ids = [value if value is None else value.decode(errors="surrogateescape") for value in ids]
    sound = not any(HALF in (value or "") for value in (*texts, *ids))
    if sound and len(payload) + len(headers or b"") <= INLINE:
        return Event(row_id, lane, *texts, payload, 0, headers, *ids, attempts, 0)
    return Event(row_id, lane, *texts, None, size, None, *ids, attempts, 0)


def read(outbox: Database, driver: str, limit: int) -> list[Event]:
    """All events, by a connection as the daemon opens it."""
    mariadb = outbox.server.product == "mariadb"
    engine = open_engine(outbox.url.replace("mysql+pymysql", driver), ConnectOptions(unchecked=True))
    with engine.connect() as connection:
        made = Statements(
            TableNames(),
            mariadb=mariadb,
            batch_bytes=INLINE * limit,
            keep_sent=True,
            may_hold=False,
            character_sets=character_sets(connection, "outbox_events"),
        )
        return Events().of(connection.exec_driver_sql(made.reading.read(range(64), limit)).cursor.fetchall())


def test_ages_are_the_databases(outbox: Database) -> None:
    """In microseconds, since the row was written; 0 for a row that says nothing of it."""
    with outbox.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION sql_mode = '', time_zone = '+00:00'")
        for created in ("NOW(6) - INTERVAL 90 SECOND", "NOW(6) + INTERVAL 90 SECOND", "'0000-00-00 00:00:00'"):
            cursor.execute(
                "INSERT INTO outbox_events (event_id, event_type, aggregate_type, aggregate_id, topic, payload, "
                f"created_at) VALUES (UUID(), 't', 't', 'a', 'orders', '{{}}', {created})"
            )
    old, future, unknown = (event.age_us / 1_000_000 for event in read(outbox, DRIVERS[0], 10))
    assert 90 <= old < 150
    assert -90 <= future < -30
    assert unknown == 0


def test_texts_of_other_character_sets(outbox: Database) -> None:
    """They are UTF-8 when they are read, whatever the table keeps them in."""
    with outbox.connect() as connection, connection.cursor() as cursor:
        cursor.execute("ALTER TABLE outbox_events MODIFY event_type VARCHAR(255) CHARACTER SET latin1 NOT NULL")
        cursor.execute(
            "INSERT INTO outbox_events (event_id, event_type, aggregate_type, aggregate_id, topic, payload) "
            "VALUES (UUID(), 'geändert', 't', 'Zürich', 'orders', '{}')"
        )
    [event] = read(outbox, DRIVERS[0], 10)
    assert (event.event_type, event.aggregate_id) == ("geändert", "Zürich")


def test_kinds_are_not_remembered_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """An application that makes up its types as it goes costs time, not memory."""
    monkeypatch.setattr("outboxd.store.rows.MOST_KINDS", 10)
    events = Events()
    rows = [(n, 0, b"\xff".join((b"e", b"a", b"7", b"type-%d" % n, b"t", b"o")), b"{}", None) for n in range(100)]
    assert [event.event_type for event in events.of(rows)] == [f"type-{n}" for n in range(100)]
    assert len(events._kinds) <= 10


TEXT_COLUMNS = dict.fromkeys(("event_type", "aggregate_type", "aggregate_id", "topic"), "VARCHAR(255)") | dict.fromkeys(
    ("event_id", "trace_id", "span_id"), "CHAR(36)"
)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.usefixtures("mysqlclient")
def test_a_text_that_has_no_utf_8_spoils_no_other(outbox: Database, driver: str) -> None:
    """Half a surrogate pair in UCS-2, in any column: all else of the row, and all other rows, are read as they are."""
    with outbox.connect() as connection, connection.cursor() as cursor:
        for column, length in TEXT_COLUMNS.items():
            null = "NULL" if column in {"trace_id", "span_id"} else "NOT NULL"
            cursor.execute(f"ALTER TABLE outbox_events MODIFY {column} {length} CHARACTER SET ucs2 {null}")
        for bad in (*TEXT_COLUMNS, None):
            values = ", ".join("_ucs2 x'0061D800'" if column == bad else f"'{column}-{bad}'" for column in TEXT_COLUMNS)
            cursor.execute(
                f"INSERT INTO outbox_events ({', '.join(TEXT_COLUMNS)}, payload, headers, attempt_count) "
                f"VALUES ({values}, '{{}}', '{{\"a\": \"b\"}}', 7)"
            )
    *spoilt, good = sorted(read(outbox, driver, 20))
    for bad, event in zip(TEXT_COLUMNS, spoilt, strict=True):
        texts = {column: getattr(event, column) for column in TEXT_COLUMNS}
        assert "\udced" in texts[bad] or texts[bad] == "\udcfe0061D800"
        assert {column: f"{column}-{bad}" for column in TEXT_COLUMNS if column != bad}.items() <= texts.items()
        assert (event.payload, event.headers, event.attempt_count) == (None, None, 7)
        assert event.payload_bytes == len('{}{"a": "b"}')
    assert good.aggregate_id == "aggregate_id-None"
    assert (good.payload, good.headers, good.attempt_count) == (b"{}", b'{"a": "b"}', 7)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.usefixtures("mysqlclient")
def test_headers_beyond_the_largest_packet_are_not_lost(outbox: Database, driver: str) -> None:
    """The server joins no more than `max_allowed_packet`: then they are left out, to be loaded by themselves."""
    headers, wide = '{"a": "' + "x" * 900 + '"}', "\N{GRINNING FACE}" * 36
    with outbox.connect() as connection, connection.cursor() as cursor:
        for trace in (wide, None):
            cursor.execute(
                "INSERT INTO outbox_events (event_id, event_type, aggregate_type, aggregate_id, topic, payload, "
                "headers, trace_id, attempt_count) VALUES (UUID(), 't', 't', 'a', 'orders', '{}', %s, %s, 7)",
                (headers, trace),
            )
        cursor.execute("SELECT @@GLOBAL.max_allowed_packet")
        [packet] = cursor.fetchone() or ()
        cursor.execute("SET GLOBAL max_allowed_packet = 1024")
        try:
            large, small = read(outbox, driver, 20)
        finally:
            cursor.execute(f"SET GLOBAL max_allowed_packet = {packet}")
    assert (large.payload, large.headers, large.payload_bytes) == (None, None, len("{}" + headers))
    assert (large.trace_id, large.attempt_count) == (wide, 7)
    assert (small.payload, small.headers, small.payload_bytes) == (b"{}", headers.encode(), 0)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("character_set", ["latin1", "ucs2", "utf8mb3"])
@pytest.mark.usefixtures("mysqlclient")
def test_documents_of_other_character_sets(outbox: Database, driver: str, character_set: str) -> None:
    """Payload and headers are UTF-8, and so counted, when they are read; also where they are no JSON."""
    large = '"' + "ü" * 3_000 + '"'
    with outbox.connect() as connection, connection.cursor() as cursor:
        for column, null in (("payload", "NOT NULL"), ("headers", "NULL")):
            text = f"LONGTEXT CHARACTER SET {character_set} {null}"
            cursor.execute(f"ALTER TABLE outbox_events MODIFY {column} {text}")
        for payload in ('{"city": "Zürich"}', "not JSON", large):
            cursor.execute(
                "INSERT INTO outbox_events (event_id, event_type, aggregate_type, aggregate_id, topic, payload, "
                "headers) VALUES (UUID(), 't', 't', 'a', 'orders', %s, '{\"k\": \"ü\"}')",
                (payload,),
            )
    short, other, left_out = read(outbox, driver, 20)
    headers = '{"k": "ü"}'.encode()
    assert (short.payload, short.headers) == ('{"city": "Zürich"}'.encode(), headers)
    assert (other.payload, other.headers) == (b"not JSON", headers)
    if left_out.payload is None:
        assert left_out.payload_bytes == len(large.encode()) + len(headers)
    else:
        assert (left_out.payload, left_out.headers) == (large.encode(), headers)
