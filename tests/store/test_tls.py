"""TLS with the database where nobody is verified: encrypted where the server can, and cheap."""

import ssl

from sqlalchemy import Connection

from outboxd.model import TableNames
from outboxd.order import OrderPolicy
from outboxd.store.engine import ConnectOptions, open_engine
from outboxd.store.store import open_store
from tests.conftest import Database
from tests.servers.mysql import MySQL

CIPHER = "SHOW SESSION STATUS LIKE 'Ssl_cipher'"


def context_and_cipher(connection: Connection) -> tuple[ssl.SSLContext, str]:
    """What the connection of the driver uses."""
    _, cipher = connection.exec_driver_sql(CIPHER).one()
    return connection.connection.driver_connection.ctx, cipher  # type: ignore[union-attr]


async def test_all_connections_share_a_context_without_authorities(outbox: Database) -> None:
    """They are encrypted as PyMySQL alone would have them, and load none of the certificates that nobody looks at."""
    with outbox.connect(ssl_disabled=False) as plain, plain.cursor() as cursor:
        cursor.execute(CIPHER)
        [(_, wanted)] = cursor.fetchall()
    store = await open_store(
        outbox.url,
        TableNames(),
        batch_bytes=1_000_000,
        keep_sent=True,
        policy=OrderPolicy(),
        default_topic="",
        lease_ttl=15.0,
        options=ConnectOptions(),
    )
    found = [await session.run(context_and_cipher) for session in store._sessions.values()]
    await store.close()
    assert len(found) == 4
    assert {cipher for _, cipher in found} == {wanted}
    [context] = {context for context, _ in found}
    assert context.cert_store_stats()["x509"] == 0


def test_who_asks_for_tls_has_a_context_of_their_own(mysql: MySQL) -> None:
    """The options of TLS count as before."""
    found = []
    for tls in ("preferred", "required"):
        engine = open_engine(mysql.url("mysql"), ConnectOptions(tls=tls))
        with engine.connect() as connection:
            found.append(context_and_cipher(connection))
    (preferred, cipher), (required, cipher_too) = found
    assert preferred is not required
    assert cipher
    assert cipher_too
