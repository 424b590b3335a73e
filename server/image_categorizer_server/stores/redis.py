"""Redis: one connection pool and one circuit breaker for each process.

Redis holds nothing that is not stored elsewhere or can be computed again.  A server that cannot
reach it still classifies, and reports `degraded`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError, ResponseError

from image_categorizer_server.errors import DependencyDown, OperatorError
from image_categorizer_server.settings.database import RedisSettings
from image_categorizer_server.stores.circuit_breaker import CircuitBreaker
from image_categorizer_server.tasks import CANCEL_AGAIN_AFTER_S, TaskOwner
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
Answer = TypeVar("Answer")
# Readiness probes wait for this check, and many of them time out after one second.
CHECK_TIMEOUT_S = 0.5
SCANNED_KEYS = 1000


class RedisClient:
    """Runs Redis commands, each with its own time limit."""

    def __init__(self, pool: BlockingConnectionPool, tasks: TaskOwner) -> None:
        """Wraps a pool.

        Args:
            pool: of connections that decode nothing. The caller closes it.
            tasks: owns the circuit breaker's probe.
        """
        self.pool = pool
        self.commands = Redis(connection_pool=pool)
        self._breaker = CircuitBreaker("Redis", self.check, tasks)

    async def check(self) -> None:
        """Pings Redis, whatever the circuit breaker says.

        Raises:
            DependencyDown: Redis does not answer.
        """
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                await _cancellable(self.commands.ping)
        except (RedisError, OSError) as error:
            raise DependencyDown("Redis does not answer") from error

    async def run(self, command: Callable[[], Awaitable[Answer]], timeout_s: float) -> Answer:
        """Returns the answer to a command.

        Raises:
            DependencyDown: Redis refuses the command or does not answer within `timeout_s`
                seconds. Raised at once while the circuit breaker is open.
        """
        self._breaker.check()
        try:
            async with asyncio.timeout(timeout_s):
                answer = await _cancellable(command)
        except ResponseError as error:  # an answer, such as that the memory is full
            self._breaker.record_success()
            raise DependencyDown("Redis refuses the command") from error
        except (RedisError, OSError) as error:
            self._breaker.record_failure(error)
            raise DependencyDown("Redis does not answer in time") from error
        self._breaker.record_success()
        return answer


async def _cancellable(command: Callable[[], Awaitable[Answer]]) -> Answer:
    """Returns the answer to a command; raises the cancellation that redis-py swallows.

    It sends with `asyncio.wait_for`, which in Python 3.11 returns as if nothing had happened if it
    is cancelled when the command has just been sent.
    """
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    try:
        return await command()
    finally:
        if task.cancelling() > before:
            raise asyncio.CancelledError


class RedisCache:
    """Keeps values in Redis for callers that can do without: each call waits only briefly."""

    def __init__(self, redis: RedisClient, timeout_s: float) -> None:
        """Configures the cache.

        Args:
            redis: where the values are.
            timeout_s: time limit of each call, in seconds.
        """
        self._redis = redis
        self._timeout_s = timeout_s

    async def get(self, key: str) -> bytes | None:
        """Returns the value of a key, or None if it has none.

        Raises:
            DependencyDown: Redis does not answer in time.
        """
        value: bytes | None = await self._redis.run(
            lambda: self._redis.commands.get(key), self._timeout_s
        )
        return value

    async def put(self, key: str, value: bytes, ttl_s: float) -> None:
        """Keeps a value for `ttl_s` seconds and replaces the previous one.

        Raises:
            DependencyDown: Redis does not answer in time, or its memory is full.
        """
        await self._redis.run(
            lambda: self._redis.commands.set(key, value, px=max(1, int(ttl_s * 1000))),
            self._timeout_s,
        )

    async def remove_all(self, prefix: str) -> int:
        """Removes every key that begins with a prefix; returns how many.

        Looks at all keys of Redis, a thousand at a time, so that other commands are not held up.

        Args:
            prefix: has no characters with a meaning in patterns of Redis.

        Raises:
            DependencyDown: Redis does not answer in time.
        """
        commands, cursor, count = self._redis.commands, 0, 0
        while True:
            scan = partial(commands.scan, cursor, match=f"{prefix}*", count=SCANNED_KEYS)
            cursor, keys = await self._redis.run(scan, self._timeout_s)
            if keys:
                count += await self._redis.run(partial(commands.unlink, *keys), self._timeout_s)
            if not cursor:
                return count


@asynccontextmanager
async def open_redis(url: str, settings: RedisSettings) -> AsyncIterator[RedisClient]:
    """Yields a client that connects on first use.

    Raises:
        OperatorError: `url` is not a Redis URL.
    """
    # By itself redis-py checks who signed a certificate, but not for which host.
    tls = {"ssl_check_hostname": True} if url.lower().startswith("rediss:") else {}
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=settings.pool_size,
            socket_timeout=settings.timeout_s,
            socket_connect_timeout=settings.timeout_s,
            **tls,
        )
    except ValueError:  # its text may repeat a part of the password
        raise OperatorError(
            "REDIS_URL is wrong. It looks like redis://user:password@host:6379/0; characters of "
            "the password such as / and @ are percent-encoded."
        ) from None
    try:
        async with TaskOwner(clean_up_s=CANCEL_AGAIN_AFTER_S) as tasks:
            yield RedisClient(pool, tasks)
    finally:
        try:
            await pool.aclose()
        except (RedisError, OSError) as error:  # it does not answer: nothing is lost
            log.info("connections to Redis were cut", error=repr(error))
