"""Tortoise's client for PostgreSQL, with which no caller waits longer than it wants to.

Tortoise and asyncpg return a connection to the pool by statements: a rollback, a reset, and after a
time-out or a cancellation the confirmation that the statement was cancelled.  A caller whose
deadline has passed must not wait for them, nor for a connection that never becomes free.
"""

import asyncio
from typing import Any

import asyncpg
from tortoise.backends.asyncpg.client import AsyncpgDBClient
from tortoise.backends.base.client import PoolConnectionWrapper

from image_categorizer_server.tasks import detached

MODULE = __name__


class Client(AsyncpgDBClient):
    """A pool of connections to PostgreSQL."""

    @property
    def timeout_s(self) -> float:
        """Timeout of a connection attempt, in seconds."""
        return float(self.extra["timeout"])

    def acquire_connection(self) -> "PooledConnection":
        """Returns a block that has a connection of the pool."""
        return PooledConnection(self, self._pool_init_lock)

    async def create_pool(self, **options: Any) -> Any:
        """Returns a new pool. The option `dsn` says how its connections are encrypted."""
        return await asyncpg.create_pool(**options)

    async def release(self, connection: object) -> None:
        """Returns a connection to the pool; closes it if it is not clean in time."""
        if self._pool is not None:
            await self._pool.release(connection, timeout=self.timeout_s)


class PooledConnection(PoolConnectionWrapper[Any]):
    """A connection of the pool during a block."""

    def __init__(self, client: Client, pool_init_lock: asyncio.Lock) -> None:
        super().__init__(client, pool_init_lock)
        self._client = client

    async def __aenter__(self) -> Any:
        """Waits for a free connection, or for a new one.

        Raises:
            TimeoutError: none was there within the timeout of a connection attempt.
        """
        async with asyncio.timeout(self._client.timeout_s):
            return await super().__aenter__()

    async def __aexit__(self, kind: object, error: object, traceback: object) -> None:
        """Returns the connection in the background; an open transaction is rolled back."""
        detached(self._client.release(self.connection))


client_class = Client
"""Where Tortoise looks for the class of a backend."""
