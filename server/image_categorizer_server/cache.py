"""Redis: the one door to it.

Nothing in Redis is the truth; a server that cannot reach it classifies all the same and says
`degraded`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis
from redis.exceptions import RedisError

from image_categorizer_server.errors import DependencyDown, OperatorError
from image_categorizer_server.setting_groups import RedisSettings


class Cache:
    """A connection pool to Redis."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def check(self) -> None:
        """Asks Redis for a sign of life.

        Raises:
            DependencyDown: expected; it does not answer.
        """
        try:
            await self._redis.ping()
        except (RedisError, OSError) as error:
            raise DependencyDown("redis does not answer") from error


@asynccontextmanager
async def open_cache(url: str, settings: RedisSettings) -> AsyncIterator[Cache]:
    """Yields a connection pool; connects on first use.

    Raises:
        OperatorError: expected; the address is not one of Redis.
    """
    try:
        redis: Redis = Redis.from_url(
            url, socket_timeout=settings.timeout_s, socket_connect_timeout=settings.timeout_s
        )
    except ValueError as error:
        raise OperatorError(f"REDIS_URL is wrong: {error}") from None
    try:
        yield Cache(redis)
    finally:
        await redis.aclose()
