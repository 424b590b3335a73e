"""Notifies servers of changes that their caches must follow: of access, and of feedback.

A notification is sent in the transaction of the change, so it arrives if and only if the change is
committed, and after it.  Servers that were not connected meanwhile get none: whoever connects again
must assume that anything has changed.

LISTEN needs a connection of its own, which is not in the pool.  A proxy that shares connections
between clients by transaction, such as PgBouncer, does not deliver notifications.
"""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import asyncpg

from image_categorizer_server.clock import Backoff
from image_categorizer_server.db.database import UNREACHABLE, Connection, connected
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
CHANNEL = "access_changes"
FIRST_RETRY_S = 0.2
MAX_RETRY_S = 2.0
# How often a silent connection is asked whether it still works.
CHECK_INTERVAL_S = 2.0


@dataclass(frozen=True, slots=True)
class AccessChange:
    """What has changed: a key, a tenant and with it all its keys, its feedback, or its examples."""

    key_id: str = ""
    tenant_id: str = ""
    feedback_tenant_id: str = ""
    """Sent by a trigger of the database; see migration 0025."""
    category_tenant_id: str = ""
    """Sent by triggers, too; see migration 0026."""


async def notify_key(connection: Connection, key_id: str) -> None:
    """Notifies all servers that a key changes with the open transaction."""
    await _notify(connection, key_id=key_id)


async def notify_tenant(connection: Connection, tenant_id: str) -> None:
    """Notifies all servers that a tenant changes with the open transaction."""
    await _notify(connection, tenant_id=tenant_id)


async def announce_categories(tenant_id: str) -> None:
    """Notifies all servers that models have seen more examples of a tenant.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        await _notify(connection, category_tenant_id=tenant_id)


async def _notify(connection: Connection, **changed: str) -> None:
    await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, json.dumps(changed))


async def watch_changes(
    url: str,
    timeout_s: float,
    on_change: Callable[[AccessChange], None],
    on_connect: Callable[[], None],
) -> None:
    """Calls `on_change` for each change that any process makes, until cancelled.

    Connects again when the connection is lost.  Needs no `open_database`.

    Args:
        url: address of the database.
        timeout_s: timeout for connecting, and for each statement.
        on_change: gets each change.
        on_connect: is called once notifications arrive, the first time and after each loss.
    """
    pauses = Backoff(FIRST_RETRY_S, MAX_RETRY_S)

    def listening() -> None:
        pauses.reset()
        on_connect()

    is_lost = False
    while True:
        try:
            await _listen(url, timeout_s, on_change, listening)
        except (*UNREACHABLE, asyncpg.PostgresError) as error:
            if not is_lost:
                log.warning(
                    "changes of access arrive late: the database does not answer", error=repr(error)
                )
            is_lost = True
        await asyncio.sleep(pauses.next_s())


async def _listen(
    url: str,
    timeout_s: float,
    on_change: Callable[[AccessChange], None],
    on_connect: Callable[[], None],
) -> None:
    """Listens on one connection until it is lost."""

    def notified(_connection: object, _pid: int, _channel: str, payload: str) -> None:
        if change := _change_of(payload):
            on_change(change)
        else:
            log.warning("unreadable notification", channel=CHANNEL)

    connection = await asyncpg.connect(url, timeout=timeout_s, command_timeout=timeout_s)
    try:
        ended = asyncio.Event()
        connection.add_termination_listener(lambda _connection: ended.set())
        await connection.add_listener(CHANNEL, notified)
        on_connect()
        while not ended.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_INTERVAL_S):
                    await ended.wait()
            if not ended.is_set():
                await connection.execute("SELECT 1")
    finally:
        connection.terminate()


def _change_of(payload: str) -> AccessChange | None:
    """Returns what a notification says; None if it is not one of ours, as anybody may send some."""
    try:
        fields = json.loads(payload)
        return AccessChange(
            str(fields.get("key_id", "")),
            str(fields.get("tenant_id", "")),
            str(fields.get("feedback_tenant_id", "")),
            str(fields.get("category_tenant_id", "")),
        )
    except (ValueError, AttributeError):
        return None
