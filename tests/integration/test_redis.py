"""Redis: the client, its circuit breaker, and the doorbell of the workers."""

import asyncio
import json
import pickle
import time

import pytest
from image_categorizer_server.errors import DependencyDown, OperatorError
from image_categorizer_server.settings.database import RedisSettings
from image_categorizer_server.stores.circuit_breaker import FAILURES_TO_OPEN
from image_categorizer_server.stores.queue import Doorbell, dump_job, load_job
from image_categorizer_server.stores.redis import RedisCache, open_redis
from image_categorizer_server.stores.redis_version import warn_of_vulnerable_redis
from structlog.testing import capture_logs

from tests.conftest import SLACK_S

NOWHERE = "unix:///nowhere/redis.sock?db=0"


async def test_redis_answers(stores):
    async with open_redis(stores.redis.url, RedisSettings()) as redis:
        await redis.check()


async def test_a_lost_redis_is_a_dependency_down():
    async with open_redis("redis://localhost:1", RedisSettings(timeout_s=0.5)) as redis:
        with pytest.raises(DependencyDown, match="Redis does not answer"):
            await redis.check()


async def test_the_warning_of_an_old_release_names_it(stores):
    """The Redis of the tests is 6.2.14."""
    async with open_redis(stores.redis.url, RedisSettings()) as redis:
        with capture_logs() as logged:
            await warn_of_vulnerable_redis(redis)
    assert [line["release"] for line in logged] == ["Redis 6.2.14"]


async def test_a_wrong_url_is_refused_at_the_start():
    with pytest.raises(OperatorError, match="REDIS_URL"):
        async with open_redis("http://localhost", RedisSettings()):
            pass


async def test_cache_and_doorbell_share_one_circuit_breaker():
    async with open_redis(NOWHERE, RedisSettings()) as redis:
        cache = RedisCache(redis, 1.0)
        for _ in range(FAILURES_TO_OPEN):
            with pytest.raises(DependencyDown, match="in time"):
                await cache.get("key")
        with pytest.raises(DependencyDown, match="at present"):
            await Doorbell(redis).ring("b-1")


async def test_jobs_are_json(stores):
    async with open_redis(stores.redis.url, RedisSettings()) as redis:
        doorbell = Doorbell(redis)
        await redis.commands.flushdb()
        await doorbell.ring("b-1")
        (key,) = await redis.commands.keys("arq:job:*")
        assert json.loads(await redis.commands.get(key))["a"] == ["b-1"]
        await redis.commands.flushdb()
    with pytest.raises(ValueError, match="codec|JSON|Expecting"):
        load_job(pickle.dumps({"a": 1}))
    assert load_job(dump_job({"a": ValueError("x")})) == {"a": "ValueError('x')"}


async def test_a_ring_that_redis_does_not_take_fails_at_once():
    async with open_redis(NOWHERE, RedisSettings()) as redis:
        start_s = time.monotonic()
        with pytest.raises(DependencyDown):
            await Doorbell(redis).ring("b-1")
        assert time.monotonic() - start_s < SLACK_S


async def test_one_cancellation_ends_a_command_at_any_moment(stores):
    async with open_redis(stores.redis.url, RedisSettings()) as redis:

        async def read():
            while True:
                await redis.run(lambda: redis.commands.get("key"), 1.0)

        await redis.check()
        for moment in range(100):
            reading = asyncio.create_task(read())
            for _ in range(moment):
                await asyncio.sleep(0)
            reading.cancel()
            async with asyncio.timeout(SLACK_S):
                with pytest.raises(asyncio.CancelledError):
                    await reading
