"""The result cache in a real Redis, and a server that continues when Redis fails."""

import asyncio
import time
from dataclasses import replace

import pytest
from image_categorizer.v1 import classify_pb2
from image_categorizer_server.domain.access import DEFAULT_TENANT
from image_categorizer_server.domain.classification import (
    CacheStatus,
    Caller,
    Classification,
    ClassifyOptions,
    Lane,
)
from image_categorizer_server.errors import DependencyDown, ModelNotFound, UndecodableImage
from image_categorizer_server.settings.database import CacheSettings, RedisSettings
from image_categorizer_server.stores.circuit_breaker import PROBE_INTERVAL_S
from image_categorizer_server.stores.redis import RedisCache, open_redis
from redis.asyncio import Redis

from tests.conftest import SLACK_S
from tests.integration.conftest import Running, running_server
from tests.support.pictures import jpeg
from tests.support.polling import elapsed, eventually

PICTURE = jpeg()
HIT, MISS, OFF = CacheStatus.HIT, CacheStatus.MISS, CacheStatus.OFF


@pytest.fixture
async def redis(stores):
    async with Redis.from_url(stores.redis.url) as connection:
        await connection.flushall()
        yield connection


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"cache": CacheSettings()})


@pytest.fixture
async def ask(redis, server):
    """Returns a function that classifies an image for a tenant."""

    async def classify(content=PICTURE, tenant_id=DEFAULT_TENANT, **options) -> Classification:
        return await ask_of(server, content, tenant_id, **options)

    return classify


async def ask_of(
    server: Running, content=PICTURE, tenant_id=DEFAULT_TENANT, **options
) -> Classification:
    caller = Caller(tenant_id, Lane.INTERACTIVE, time.monotonic() + 10)
    return await server.backend.classifications.classify(
        content, ClassifyOptions(**options), caller
    )


async def paused(stores, seconds: float) -> None:
    """Makes Redis hang: it accepts connections and commands, but does not answer."""
    async with Redis.from_url(stores.redis.url) as connection:
        await connection.client_pause(int(seconds * 1000), all=True)


async def test_the_second_answer_comes_from_the_cache_and_is_the_same(ask):
    first, second = await ask(), await ask()
    assert (first.cache, second.cache) == (MISS, HIT)
    assert replace(first, cache=HIT) == second


async def test_the_response_says_whether_it_comes_from_the_cache(redis, server):
    async with await server.client() as client:
        request = classify_pb2.ClassifyRequest(image=PICTURE)
        connection = client._connection
        wire = [await connection.call(connection.stubs.classify.Classify, request) for _ in "ab"]
    assert [answer.cache for answer in wire] == [
        classify_pb2.ClassifyResponse.MISS,
        classify_pb2.ClassifyResponse.HIT,
    ]
    assert wire[0].timing == wire[1].timing
    assert wire[0].request_id != wire[1].request_id


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 1},
        {"confidence_threshold": 0.01},
        {"include_categories": ("cat", "dog")},
        {"exclude_categories": ("cat",)},
        {"model": "small", "bounding_boxes": True},
    ],
    ids=["top_k", "threshold", "include", "exclude", "boxes"],
)
async def test_other_options_miss_the_cache(ask, options):
    await ask()
    answer = await ask(**options)
    assert answer.cache is MISS
    assert await ask(**options) == replace(answer, cache=HIT)


async def test_naming_the_default_model_hits_the_same_entry(ask):
    await ask()
    assert (await ask(model="small", version=1)).cache is HIT


async def test_another_tenant_misses_the_cache(ask, redis):
    await ask(tenant_id="one")
    assert (await ask(tenant_id="two")).cache is MISS
    assert {key.split(b":")[1] for key in await redis.keys()} == {b"one", b"two"}


async def test_one_more_byte_is_another_image(ask):
    await ask()
    assert (await ask(PICTURE + b"\0")).cache is MISS


async def test_a_large_image_is_cached_too(ask):
    large = PICTURE + bytes(2**20)
    assert (await ask(large)).cache is MISS
    assert (await ask(large)).cache is HIT


async def test_no_cache_neither_reads_nor_writes_the_cache(ask, redis):
    assert (await ask(no_cache=True)).cache is OFF
    assert await redis.keys() == []
    await ask()
    assert (await ask(no_cache=True)).cache is OFF


async def test_errors_are_not_cached(ask, redis):
    for _ in range(2):
        with pytest.raises(UndecodableImage):
            await ask(b"no image")
        with pytest.raises(ModelNotFound):
            await ask(model="nope")
    assert await redis.keys() == []


async def test_a_damaged_entry_is_replaced(ask, redis):
    await ask()
    (key,) = await redis.keys()
    await redis.set(key, b"\x80damaged")
    assert (await ask()).cache is MISS
    assert (await ask()).cache is HIT


async def test_cached_answers_expire(redis, settings):
    brief = settings.model_copy(update={"cache": CacheSettings(ttl_s=0.3)})
    async with running_server(brief) as server:
        assert (await ask_of(server)).cache is MISS
        assert (await ask_of(server)).cache is HIT
        await elapsed(0.4)
        assert (await ask_of(server)).cache is MISS


async def test_the_cache_can_be_turned_off(redis, settings):
    off = settings.model_copy(update={"cache": CacheSettings(ttl_s=0)})
    async with running_server(off) as server:
        for _ in range(2):
            assert (await ask_of(server)).cache is OFF
    assert await redis.keys() == []


async def test_a_hanging_redis_delays_the_first_requests_briefly_and_later_ones_not(ask, stores):
    await ask()
    await paused(stores, 3)
    times_s = []
    for _ in range(10):
        start_s = time.perf_counter()
        assert (await ask()).cache is OFF
        times_s.append(time.perf_counter() - start_s)
    assert max(times_s) < 2 + min(times_s)
    assert sorted(times_s)[5] < 0.5 + min(times_s)

    async def is_cached():
        return (await ask()).cache is not OFF

    await eventually(is_cached, 3 + RedisSettings().timeout_s + 3 * PROBE_INTERVAL_S, 0.1)
    assert (await ask()).cache is HIT


async def test_the_cache_is_skipped_while_redis_is_down(ask, stores):
    await ask()
    await stores.redis.kill()
    try:
        for _ in range(5):
            start_s = time.perf_counter()
            assert (await ask()).cache is OFF
            assert time.perf_counter() - start_s < SLACK_S
    finally:
        await stores.redis.start()

    async def is_cached():
        return (await ask()).cache is not OFF

    await eventually(is_cached, 10, 0.1)


async def test_a_full_redis_is_still_read(redis, stores):
    async with open_redis(stores.redis.url, RedisSettings()) as client:
        cache = RedisCache(client, 1.0)
        await cache.put("key", b"value", 10)
        await redis.config_set("maxmemory", 1)
        try:
            for _ in range(5):
                with pytest.raises(DependencyDown, match="refuses"):
                    await cache.put("key", b"value", 10)
            assert await cache.get("key") == b"value"
        finally:
            await redis.config_set("maxmemory", 0)


async def test_requests_beyond_the_pool_wait_for_a_connection(redis, stores):
    async with open_redis(stores.redis.url, RedisSettings(pool_size=2)) as client:
        cache = RedisCache(client, 5.0)
        before = len(await redis.client_list())
        await asyncio.gather(*(cache.put(f"key {n}", b"value", 10) for n in range(50)))
        assert len(await redis.client_list()) <= before + 2
    assert len(await redis.keys()) == 50
