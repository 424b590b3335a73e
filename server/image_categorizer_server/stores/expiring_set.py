"""A small set in Redis whose members expire one by one; the time is that of Redis."""

from collections.abc import Sequence

from image_categorizer_server.stores.redis import RedisClient

MAX_MEMBERS = 10_000


class RedisExpiringSet:
    """Texts in a sorted set, by the time at which they expire."""

    def __init__(self, redis: RedisClient, key: str, timeout_s: float) -> None:
        """Configures the set.

        Args:
            redis: where it is.
            key: its key.
            timeout_s: time limit of each call, in seconds.
        """
        self._redis = redis
        self._key = key
        self._timeout_s = timeout_s

    async def add(self, member: str, ttl_s: float) -> None:
        """Adds a text for `ttl_s` seconds; the first to expire make place if there are too many.

        Raises:
            DependencyDown: Redis does not answer in time, or its memory is full.
        """

        async def write() -> None:
            now_s = await self._now_s()
            async with self._redis.commands.pipeline(transaction=True) as pipe:
                pipe.zremrangebyscore(self._key, "-inf", now_s)
                pipe.zadd(self._key, {member: now_s + ttl_s})
                pipe.zremrangebyrank(self._key, 0, -MAX_MEMBERS - 1)
                await pipe.execute()

        await self._redis.run(write, self._timeout_s)

    async def members(self) -> dict[str, float]:
        """Returns for each text the seconds until it expires. Costs one command if there is none.

        Raises:
            DependencyDown: Redis does not answer in time.
        """

        async def read() -> dict[str, float]:
            found = await self._redis.commands.zrange(self._key, 0, -1, withscores=True)
            if not found:
                return {}
            now_s = await self._now_s()
            return {
                member.decode(errors="replace"): until_s - now_s
                for member, until_s in found
                if until_s > now_s
            }

        return await self._redis.run(read, self._timeout_s)

    async def remove(self, members: Sequence[str]) -> int:
        """Removes texts; returns how many there were.

        Raises:
            DependencyDown: Redis does not answer in time.
        """

        async def write() -> int:
            return int(await self._redis.commands.zrem(self._key, *members)) if members else 0

        return await self._redis.run(write, self._timeout_s)

    async def _now_s(self) -> float:
        seconds, microseconds = await self._redis.commands.time()
        return float(seconds) + float(microseconds) / 1e6
