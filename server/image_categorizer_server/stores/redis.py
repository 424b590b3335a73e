"""Redis: the one door to it.

Nothing in Redis is the truth; a server that cannot reach it classifies all the same and says
`degraded`.  Requests that only hope for something here wait for it as long as `timeout_s` of the
cache's settings says, and after a few failures in a row not at all until Redis answers again: the
circuit breaker of Nygard, "Release It!" (2007), except that it is no request that tries anew.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError, ResponseError

from image_categorizer_server.errors import DependencyDown, OperatorError
from image_categorizer_server.settings.database import RedisSettings
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
Answer = TypeVar("Answer")
FAILURES_TO_OPEN = 3
PROBE_INTERVAL_S = 1.0
# Probes of readiness wait for it, and many of them give up after one second.
CHECK_TIMEOUT_S = 0.5


class Cache:
    """A connection pool to Redis."""

    def __init__(self, redis: Redis, timeout_s: float) -> None:
        """Wraps a client.

        Args:
            redis: decodes nothing; closed by whoever made it.
            timeout_s: what a `get` or `put` may take.
        """
        self._redis = redis
        self._timeout_s = timeout_s
        self._failures_in_a_row = 0
        self._probing: asyncio.Task[None] | None = None

    async def check(self) -> None:
        """Asks Redis for a sign of life.

        Raises:
            DependencyDown: it does not answer.
        """
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                await self._redis.ping()
        except (RedisError, OSError) as error:
            raise DependencyDown("redis does not answer") from error

    async def get(self, key: str) -> bytes | None:
        """Returns what is kept under the key.

        Raises:
            DependencyDown: not in time, or at once where it did not answer of late.
        """
        value: bytes | None = await self._in_time(lambda: self._redis.get(key))
        return value

    async def put(self, key: str, value: bytes, ttl_s: float) -> None:
        """Keeps a value for `ttl_s` seconds, in place of what the key held.

        Raises:
            DependencyDown: as `get` does, or Redis is full.
        """
        await self._in_time(lambda: self._redis.set(key, value, px=max(1, int(ttl_s * 1000))))

    async def close(self) -> None:
        """Ends what runs in the background."""
        if self._probing:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)

    async def _in_time(self, command: Callable[[], Awaitable[Answer]]) -> Answer:
        if self._probing:
            raise DependencyDown("redis did not answer of late")
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await command()
        except ResponseError as error:  # it answers, if only that it is full
            self._failures_in_a_row = 0
            raise DependencyDown("redis refuses") from error
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(error)
            raise DependencyDown("redis does not answer in time") from error
        self._failures_in_a_row = 0
        return answer

    def _failed(self, error: Exception) -> None:
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= FAILURES_TO_OPEN and not self._probing:
            log.warning("redis does not answer; going on without it", error=repr(error))
            self._probing = asyncio.create_task(self._probe())

    async def _probe(self) -> None:
        """Waits until Redis answers, then lets requests ask it again."""
        while True:
            await asyncio.sleep(PROBE_INTERVAL_S)
            try:
                await self.check()
            except DependencyDown:
                continue
            log.info("redis answers again")
            self._failures_in_a_row, self._probing = 0, None
            return


@asynccontextmanager
async def open_cache(
    url: str, settings: RedisSettings, quick_timeout_s: float = 0.03
) -> AsyncIterator[Cache]:
    """Yields a connection pool; connects on first use.

    Args:
        url: of Redis.
        settings: of the connections.
        quick_timeout_s: what a request may wait for something that it can do without.

    Raises:
        OperatorError: the address is not one of Redis.
    """
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=settings.pool_size,
            socket_timeout=settings.timeout_s,
            socket_connect_timeout=settings.timeout_s,
        )
    except ValueError as error:
        raise OperatorError(f"REDIS_URL is wrong: {error}") from None
    redis = Redis.from_pool(pool)
    cache = Cache(redis, quick_timeout_s)
    try:
        yield cache
    finally:
        await cache.close()
        await redis.aclose()
