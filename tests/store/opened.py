"""The store as the daemon opens it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from outboxd.model import TableNames
from outboxd.order import OrderPolicy
from outboxd.store.engine import ConnectOptions
from outboxd.store.store import Store, open_store
from tests.conftest import Database


@asynccontextmanager
async def store_of(outbox: Database, lease_ttl: float = 15) -> AsyncIterator[Store]:
    """As the daemon opens it."""
    store = await open_store(
        outbox.url,
        TableNames(),
        batch_bytes=10**6,
        keep_sent=True,
        policy=OrderPolicy(),
        default_topic="",
        lease_ttl=lease_ttl,
        options=ConnectOptions(),
    )
    try:
        yield store
    finally:
        await store.close()
