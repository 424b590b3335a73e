"""Tortoise's client for PostgreSQL, with which no caller waits longer than it wants to.

Tortoise and asyncpg return a connection to the pool by statements: a rollback, a reset, and after a
time-out or a cancellation the confirmation that the statement was cancelled.  A caller whose
deadline has passed must not wait for them, nor for a connection that never becomes free.

A connection that is taken is bound to the tenant scope of the task that takes it; the reset clears
that when it is returned.  Row-level security reads it: see `schema.py`.
"""

import asyncio
from typing import Any

import asyncpg
from tortoise.backends.asyncpg.client import AsyncpgDBClient
from tortoise.backends.base.client import PoolConnectionWrapper

from image_categorizer_server.domain.tenant import NO_TENANT, current_scope
from image_categorizer_server.tasks import detached

MODULE = __name__
SCOPE_PARAMETER = "categorizer.tenant"
"""The parameter of PostgreSQL that holds the tenant scope of a connection."""
BIND = f"SELECT set_config('{SCOPE_PARAMETER}', $1, false)"


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

    @property
    def in_use(self) -> int:
        """How many connections are taken, or are being returned."""
        return self._pool.get_size() - self._pool.get_idle_size() if self._pool else 0

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
        """Waits for a free connection, or for a new one, and binds it to the tenant scope.

        Raises:
            TimeoutError: none was there within the timeout of a connection attempt.
        """
        async with asyncio.timeout(self._client.timeout_s):
            connection = await super().__aenter__()
            if (scope := current_scope()) != NO_TENANT:
                try:
                    await connection.execute(BIND, scope)
                except BaseException:
                    detached(self._client.release(connection))
                    raise
            return connection

    async def __aexit__(self, kind: object, error: object, traceback: object) -> None:
        """Returns the connection in the background; an open transaction is rolled back."""
        detached(self._client.release(self.connection))


client_class = Client
"""Where Tortoise looks for the class of a backend."""
