"""An aggregate that waits behind a dead letter, under a running daemon: seen, and let go by each command."""

import json
from collections.abc import Callable
from contextlib import closing

import pytest

from tests.conftest import Database
from tests.end_to_end.application import Ledger, fill, insert
from tests.end_to_end.checker import check, consume
from tests.end_to_end.daemon import Daemon, until
from tests.migrate.support import Sql
from tests.operations.conftest import Run
from tests.servers.kafka import Kafka


@pytest.mark.parametrize("verb", ["requeue", "discard"])
def test_a_held_aggregate_is_seen_and_let_go(
    run: Run,
    sql: Sql,
    outbox: Database,
    kafka: Kafka,
    topic: Callable[..., str],
    daemon: Callable[..., Daemon],
    verb: str,
) -> None:
    """Status names the dead letter; when that is repaired and requeued, or discarded, the rest follows in order."""
    ledger, name = Ledger(), topic(1)
    with closing(outbox.connect()) as connection:
        bad = insert(connection, ledger, "order-0", name, headers="[1]")
        fill(connection, ledger, name, 100, 10)
    daemon(RETRY__INTERVAL="50ms", ORDER__AFTER_DEAD_LETTER="hold")
    until(lambda: sql.one("SELECT COUNT(*) FROM outbox_events WHERE status = 1") == 90, "the others are sent")
    until(lambda: sql.one("SELECT COUNT(*) FROM outbox_events WHERE status = 2") == 10, "the aggregate is held")
    [(key,)] = until(
        lambda: sql("SELECT id FROM outbox_deadletters WHERE event_id = %s", bad), "the dead letter is moved"
    )
    held = json.loads(run("status", "--json").stdout)["sources"]["default"]["held"]
    assert held["count"] == 1
    [aggregate] = held["aggregates"]
    assert (aggregate["aggregate_id"], aggregate["waiting"], aggregate["behind"]) == ("order-0", 10, key)
    assert (aggregate["kind"], aggregate["due_at"]) == ("dead_letter", None)
    if verb == "requeue":
        sql("UPDATE outbox_deadletters SET headers = NULL WHERE id = %s", key)
        assert run("deadletters", "requeue", str(key)).exit_code == 0
    else:
        assert run("deadletters", "discard", str(key), "--yes").exit_code == 0
        del ledger.events[bad]
    until(lambda: sql.one("SELECT COUNT(*) FROM outbox_events WHERE status <> 1") == 0, "everything is sent")
    verdict = check(consume(kafka.bootstrap, name), ledger)
    assert verdict.clean, verdict.differences
    assert verdict.delivered == len(ledger.events)
    assert json.loads(run("status", "--json").stdout)["sources"]["default"]["held"]["count"] == 0
