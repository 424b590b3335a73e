"""Servers are notified of changes of keys and tenants, also after they lost the database."""

import asyncio

import asyncpg
import pytest
from image_categorizer_server.db.access_changes import (
    CHANNEL,
    AccessChange,
    notify_key,
    notify_tenant,
    watch_changes,
)
from image_categorizer_server.db.database import connected, transaction

from tests.support.polling import eventually, stays

TIMEOUT_S = 5


class Watched:
    """What a watcher was notified of."""

    def __init__(self):
        self.changes = []
        self.connects = 0

    def connected(self):
        self.connects += 1


@pytest.fixture
async def watched(emptied):
    seen = Watched()
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(
            watch_changes(emptied, TIMEOUT_S, seen.changes.append, seen.connected)
        )
        await eventually(lambda: seen.connects)
        yield seen
        watching.cancel()


async def test_a_change_is_notified_once_it_is_committed(watched):
    async with transaction() as connection:
        await notify_key(connection, "k1")
        await notify_tenant(connection, "acme")
        await stays(lambda: watched.changes == [], 0.1)
    await eventually(lambda: len(watched.changes) == 2)
    assert watched.changes == [AccessChange(key_id="k1"), AccessChange(tenant_id="acme")]


async def test_a_change_that_is_rolled_back_is_not_notified(watched):
    async def fail():
        async with transaction() as connection:
            await notify_key(connection, "k1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with transaction() as connection:
        await notify_key(connection, "k2")
    await eventually(lambda: watched.changes)
    assert watched.changes == [AccessChange(key_id="k2")]


async def test_a_lost_connection_is_replaced_and_counts_as_a_change_of_everything(watched, emptied):
    other = await asyncpg.connect(emptied)
    ended = await other.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
    )
    await other.close()
    assert len(ended) == 1
    await eventually(lambda: watched.connects == 2)
    async with transaction() as connection:
        await notify_key(connection, "k1")
    await eventually(lambda: watched.changes == [AccessChange(key_id="k1")])


@pytest.mark.parametrize("payload", ["", "nonsense", "[]", "7", "null"])
async def test_a_notification_of_somebody_else_is_ignored(watched, payload):
    async with connected() as connection:
        await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, payload)
        await notify_key(connection, "k1")
    await eventually(lambda: watched.changes == [AccessChange(key_id="k1")])
