"""Moving rows in error to the dead letters, statement by statement."""

from outboxd.model import Status, TableNames
from outboxd.store.engine import ConnectOptions, open_engine
from outboxd.store.statements import Statements
from tests.conftest import Database
from tests.end_to_end.application import INSERT, Ledger


def test_tables_of_different_collations(outbox: Database) -> None:
    """As adopted ones may be: the row goes once its copy is there, and stays where the copy is another event's."""
    made = Statements(
        TableNames(),
        mariadb=outbox.server.product == "mariadb",
        batch_bytes=10**6,
        keep_sent=True,
        may_hold=False,
    )
    with outbox.connect() as application, application.cursor() as cursor:
        cursor.execute("ALTER TABLE outbox_deadletters MODIFY event_id CHAR(36) COLLATE utf8mb4_general_ci NOT NULL")
        for _ in range(2):
            cursor.execute(INSERT, Ledger().row("a", "orders"))
        cursor.execute("UPDATE outbox_events SET status = %s", (Status.ERROR,))
    with open_engine(outbox.url, ConnectOptions(unchecked=True)).connect() as connection:
        connection.exec_driver_sql(made.dead_letters.copy_dead([1, 2]), ("code", None))
        connection.exec_driver_sql("UPDATE outbox_deadletters SET event_id = 'another' WHERE id = 2")
        assert connection.exec_driver_sql(made.dead_letters.delete_moved([1, 2])).rowcount == 1
        assert connection.exec_driver_sql("SELECT id FROM outbox_events").scalars().all() == [2]
