"""`outboxd deadletters` as it is typed."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from outboxd.cli import main
from tests.conftest import Database
from tests.migrate.support import Sql
from tests.operations.conftest import Run
from tests.operations.rows import DEAD, fill_dead, ids, insert_dead, insert_event


def test_requeue_puts_it_back_as_it_was(run: Run, sql: Sql) -> None:
    """New, without attempts, under its own id, with its time and headers."""
    event_id = insert_dead(sql, 17, headers='{"tenant": "acme"}', trace_id="t", span_id="s", topic="Bestellungen-ä")
    result = run("deadletters", "requeue", "17")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "requeued 1 dead letter\n", "")
    assert ids(sql) == []
    rest = (None, None, "2026-01-31 11:00:00.000000")
    assert sql(
        "SELECT id, event_id, event_type, aggregate_type, aggregate_id, topic, trace_id, span_id, headers, status, "
        "attempt_count, next_attempt_at, last_error, CAST(created_at AS CHAR) FROM outbox_events"
    ) == [
        (
            17,
            event_id,
            "order.placed",
            "order",
            "order-1",
            "Bestellungen-ä",
            "t",
            "s",
            '{"tenant": "acme"}',
            0,
            0,
            *rest,
        )
    ]


def test_list_shows_the_newest_and_how_many_there_are(run: Run, sql: Sql) -> None:
    """Fields between tabs; what could steer a terminal or break a line is escaped."""
    fill_dead(sql, 60)
    insert_dead(sql, 100, event_id="e" * 36, aggregate_id="a\tb\n\x1b[31m", holds=1, last_error="x" * 100)
    result = run("deadletters", "list", "--limit", "2")
    head, newest, second = result.stdout.splitlines()
    assert head.split("\t") == [
        "id", "event_id", "topic", "aggregate_id", "attempts", "reason", "moved_at", "holds", "last_error"
    ]  # fmt: skip
    assert newest.split("\t") == [
        "100", "e" * 36, "orders", "a\\tb\\n\\x1b[31m", "3", "message_too_large", "2026-01-31T12:00:00Z", "yes",
        "x" * 79 + "…",
    ]  # fmt: skip
    assert second.startswith("60\t")
    assert result.stderr == "2 of 61\n"
    assert len(run("deadletters", "list").stdout.splitlines()) == 51


def test_texts_that_are_not_utf_8_are_shown(run: Run, sql: Sql, outbox: Database) -> None:
    """Half a surrogate pair, escaped: in lists, in JSON, and by the command that shows the backlog."""
    half, shown = b"a\xed\xa0\x80", "a\\udced\\udca0\\udc80"
    if outbox.server.product == "mysql":
        half, shown = bytes.fromhex("0061D800"), "\\udcfe0061D800"
        for table in ("outbox_events", "outbox_deadletters"):
            sql(f"ALTER TABLE {table} MODIFY aggregate_id VARCHAR(255) CHARACTER SET ucs2 NOT NULL, ALGORITHM=COPY")
    insert_dead(sql, 17, aggregate_id=half, holds=1)
    insert_event(sql, 18, aggregate_id=half, status=2, next_attempt_at="2037-01-01")
    assert run("deadletters", "list").stdout.splitlines()[1].split("\t")[3] == shown
    assert f"aggregate_id\t{shown}" in run("deadletters", "show", "17", "--payload").stdout.splitlines()
    [listed] = json.loads(run("deadletters", "list", "--json").stdout)["dead_letters"]
    assert listed["aggregate_id"].encode(errors="surrogateescape") in {half, b"\xfe0061D800"}
    assert run("status").exit_code == run("status", "--json").exit_code == 0
    assert run("deadletters", "discard", "17", "--yes").exit_code == 0
    assert ids(sql) == []


def test_tables_of_different_collations(run: Run, sql: Sql) -> None:
    """As adopted ones may be: what is known by its event_id stays, the others go back."""
    sql("ALTER TABLE outbox_deadletters MODIFY event_id CHAR(36) COLLATE utf8mb4_general_ci NOT NULL")
    insert_dead(sql, 17)
    insert_event(sql, 5, event_id=insert_dead(sql, 18), status=1)
    insert_event(sql, 19, status=1)
    insert_dead(sql, 19)
    result = run("deadletters", "requeue", "17", "18", "19")
    assert (result.exit_code, ids(sql)) == (1, [18, 19])
    assert "requeued 1 dead letter" in result.stdout


def test_list_as_json(run: Run, sql: Sql) -> None:
    """The shape that docs/operations.md describes; columns as they are stored."""
    event_id = insert_dead(sql, 17, holds=1, aggregate_id="ö\n")
    insert_dead(sql, 18, reason=None, moved_at=None, last_error=None)
    listed = json.loads(run("deadletters", "list", "--json", "17").stdout)
    assert listed == {
        "total": 1,
        "more": False,
        "dead_letters": [
            {
                "id": 17,
                "event_id": event_id,
                "event_type": "order.placed",
                "aggregate_type": "order",
                "aggregate_id": "ö\n",
                "topic": "orders",
                "attempt_count": 3,
                "reason": "message_too_large",
                "last_error": DEAD["last_error"],
                "holds": True,
                "created_at": "2026-01-31T11:00:00.000000Z",
                "moved_at": "2026-01-31T12:00:00.500000Z",
            }
        ],
    }
    [other] = json.loads(run("deadletters", "list", "--json", "18").stdout)["dead_letters"]
    assert (other["reason"], other["moved_at"], other["last_error"], other["holds"]) == (None, None, None, False)


def test_show_tells_all_but_the_payload(run: Run, sql: Sql) -> None:
    """Headers as stored; the payload only with --payload."""
    insert_dead(sql, 17, headers='{"tenant": "acme"}', payload='{"secret": 1}')
    shown = run("deadletters", "show", "17").stdout
    assert "secret" not in shown
    assert 'headers\t{"tenant": "acme"}\npayload_bytes\t13\npayload\tnot shown (13 bytes)' in shown
    assert 'payload\t{"secret": 1}\n' in run("deadletters", "show", "17", "--payload").stdout
    document = json.loads(run("deadletters", "show", "17", "--json").stdout)
    assert "payload" not in document
    assert document["headers"] == '{"tenant": "acme"}'
    assert json.loads(run("deadletters", "show", "17", "--json", "--payload").stdout)["payload"] == '{"secret": 1}'


FILTERS = [
    (("17",), [17]),
    (("17", "19-20"), [17, 19, 20]),
    (("0-9223372036854775807", "--topic", "orders"), [18, 19, 20]),
    (("--topic", "refunds"), [17]),
    (("--topic", "Refunds"), []),
    (("--aggregate", "order-2"), [18]),
    (("--aggregate", "Order-2"), [19]),
    (("--aggregate-type", "basket"), [20]),
    (("--event-type", "order.paid"), [20]),
    (("--reason", "stuck"), [18, 19]),
    (("--reason", "stuck", "--aggregate", "order-2"), [18]),
    (("17-18", "--reason", "stuck"), [18]),
    (("--before", "2026-02-01"), [17]),
    (("--before", "2026-02-01T00:00:00+12:00"), [17]),
    (("--before", "2026-02-01T00:00:00+13:00"), []),
    (("--after", "2h"), [18, 20]),
    (("--after", "2026-02-01", "--before", "2h"), [19]),
    (("--reason", "stuck", "--limit", "1"), [18]),
]


def insert_various(sql: Sql) -> None:
    """17 to 20, which differ. The last is of the Go library, which notes neither when nor why."""
    insert_dead(sql, 17, topic="refunds", moved_at="2026-01-31 11:30:00")
    insert_dead(sql, 18, aggregate_id="order-2", reason="stuck", moved_at=sql.one("SELECT NOW(6)"))
    insert_dead(sql, 19, aggregate_id="Order-2", reason="stuck", moved_at=sql.one("SELECT NOW(6) - INTERVAL 3 HOUR"))
    insert_dead(
        sql,
        20,
        aggregate_type="basket",
        event_type="order.paid",
        reason=None,
        moved_at=None,
        created_at=sql.one("SELECT NOW(6) - INTERVAL 1 HOUR"),
    )


@pytest.mark.parametrize(("arguments", "meant"), FILTERS, ids=lambda value: "_".join(map(str, value)))
def test_filters(run: Run, sql: Sql, arguments: tuple[str, ...], meant: list[int]) -> None:
    """Each alone and together; what they mean is discarded, and nothing else. A dry run names the same."""
    insert_various(sql)
    dry = run("deadletters", "discard", "--dry-run", *arguments)
    assert [int(line.split("\t")[0]) for line in dry.stdout.splitlines()[1:]] == meant
    assert dry.stderr == f"would discard {len(meant)}\n"
    assert ids(sql) == [17, 18, 19, 20]
    result = run("deadletters", "discard", "--yes", *arguments)
    assert (result.exit_code, result.stderr.splitlines()[-1].split()[:2]) == (0, ["discarded", str(len(meant))])
    assert [line.split("\t")[:2] for line in result.stdout.splitlines()] == [["discarded", str(one)] for one in meant]
    assert ids(sql) == [one for one in [17, 18, 19, 20] if one not in meant]
    assert ids(sql, "outbox_events") == []


def test_a_dry_run_of_requeue_changes_nothing(run: Run, sql: Sql) -> None:
    """It shows the first, and how many there are."""
    fill_dead(sql, 1500)
    before = sql("CHECKSUM TABLE outbox_deadletters, outbox_events")
    result = run("deadletters", "requeue", "--all", "--dry-run")
    assert result.exit_code == 0
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == ["id", *map(str, range(1, 21))]
    assert result.stderr == "would requeue 1500; the first 20 are shown\n"
    assert sql("CHECKSUM TABLE outbox_deadletters, outbox_events") == before


@pytest.mark.parametrize("verb", ["requeue", "discard"])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "which ones? Write ids, or filters such as --reason, or --all"),
        (("--limit", "5"), "which ones?"),
        (("--all", "17"), "--all does not go together with ids and filters"),
        (("seventeen",), "expected an id such as 17 or a range such as 20-40, got other text"),
        (("40-20",), "the range ends before it begins; write 20-40"),
        (("9223372036854775808",), "an id is at most 9223372036854775807"),
        (("--before", "yesterday"), "expected a time such as 2026-01-31T12:00:00 (UTC) or a duration such as 2h"),
    ],
)
def test_a_wrong_command_line_changes_nothing(
    run: Run, sql: Sql, verb: str, arguments: tuple[str, ...], said: str
) -> None:
    """Exit code 2, before the database is asked."""
    insert_dead(sql, 17)
    result = run("deadletters", verb, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert ids(sql) == [17]


def test_ids_that_are_no_dead_letters(run: Run, sql: Sql) -> None:
    """Each is named with what it is; the others are done, and the exit code tells."""
    insert_dead(sql, 17)
    insert_event(sql, 18, status=1)
    insert_event(sql, 19, status=77)
    result = run("deadletters", "requeue", "17", "18", "19", "20")
    assert (result.exit_code, result.stdout) == (1, "requeued 1 dead letter\n")
    assert result.stderr.splitlines() == [
        "outboxd: 18 is no dead letter: it is an event with status sent",
        "outboxd: 19 is no dead letter: it is an event with status 77",
        "outboxd: 20 is no dead letter, and not an event either",
    ]
    assert run("deadletters", "show", "18").stderr == "outboxd: 18 is no dead letter: it is an event with status sent\n"
    assert run("deadletters", "show", "20").exit_code == 1
    assert run("deadletters", "show", "x").exit_code == 2
    assert run("deadletters", "requeue", "1-10").exit_code == 0


def test_one_that_the_events_have_already_is_left(run: Run, sql: Sql) -> None:
    """By its id, or by its event_id under another id; the others go on."""
    fill_dead(sql, 5)
    insert_event(sql, 2, status=1)
    event_id = sql.one("SELECT event_id FROM outbox_deadletters WHERE id = 4")
    insert_event(sql, 99, event_id=event_id)
    result = run("deadletters", "requeue", "--all")
    assert (result.exit_code, result.stdout) == (1, "requeued 3 dead letters\n")
    assert result.stderr.splitlines() == [
        "outboxd: 2 is left: event 2 has its id already, with status sent",
        "outboxd: 4 is left: event 99 has its event_id already, with status new",
    ]
    assert (ids(sql), ids(sql, "outbox_events")) == ([2, 4], [1, 2, 3, 5, 99])


def test_what_waits_behind_a_dead_letter_is_the_daemons(run: Run, sql: Sql) -> None:
    """Neither command touches it."""
    insert_dead(sql, 1, holds=1)
    insert_dead(sql, 2, holds=1, aggregate_id="order-2")
    insert_event(sql, 3, status=2, next_attempt_at="2038-01-17 13:37:11")
    insert_event(sql, 4, status=2, next_attempt_at="2038-01-17 13:37:11", aggregate_id="order-2")
    held = sql("SELECT * FROM outbox_events WHERE id > 2")
    assert run("deadletters", "requeue", "1").exit_code == 0
    assert run("deadletters", "discard", "2", "--yes").exit_code == 0
    assert sql("SELECT * FROM outbox_events WHERE id > 2") == held


def test_discard_needs_a_yes_where_nobody_can_be_asked(run: Run, sql: Sql) -> None:
    """A usage error, and nothing is deleted."""
    insert_dead(sql, 17)
    result = run("deadletters", "discard", "17")
    assert result.exit_code == 2
    assert "nobody can be asked here: write --yes" in result.stderr
    assert ids(sql) == [17]


def test_tables_that_are_behind(database: Database, tmp_path: Path) -> None:
    """The same line as the daemon's, for each command."""
    environment = {"OUTBOXD_DATABASE_URL": database.url}
    for arguments in (["status"], ["deadletters", "list"], ["deadletters", "requeue", "--all"]):
        result = CliRunner().invoke(main, arguments, env=environment)
        assert result.exit_code == 1
        assert result.stderr == "outboxd: outbox_events has not been migrated: run `outboxd migrate`\n"


def test_one_of_several_sources_must_be_named(outbox: Database, sql: Sql, tmp_path: Path) -> None:
    """So that nothing is done to the wrong one."""
    config = tmp_path / "outboxd.toml"
    config.write_text(
        f'[database]\nurl = "{outbox.url}"\n[sources.orders]\n[sources.billing.tables]\nevents = "billing_events"\n'
    )
    insert_dead(sql, 17)
    result = CliRunner().invoke(main, ["deadletters", "requeue", "--all", "-c", str(config)])
    assert result.exit_code == 2
    assert "--source: there are several sources; write one of billing, orders" in result.stderr
    result = CliRunner().invoke(main, ["deadletters", "requeue", "--all", "--source", "orders", "-c", str(config)])
    assert result.stdout == "requeued 1 dead letter\n"
