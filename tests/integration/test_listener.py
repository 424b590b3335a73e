"""The doorbell while other programs write to the same Redis."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from arq.constants import job_key_prefix, retry_key_prefix
from image_categorizer_server.clock import now
from image_categorizer_server.settings.database import RedisSettings
from image_categorizer_server.stores.queue import CLASSIFY, QUEUE, Doorbell
from image_categorizer_server.stores.redis import open_redis
from image_categorizer_server.tasks import cancel_until_ended
from image_categorizer_workers.listener import listen
from redis.asyncio import Redis

from tests.support.polling import eventually

GOOD: dict[str, object] = {"f": CLASSIFY, "a": ["b-1"], "k": {}, "t": None, "et": 1}


KEY, TRIES = job_key_prefix + "odd", retry_key_prefix + "odd"


def due() -> float:
    return now().timestamp() * 1000 - 1000


def job(**values: object) -> str:
    return json.dumps(GOOD | values)


# What no server puts into Redis: into the queue, or as the job "odd" that the queue names.
MEMBERS: dict[str, Callable[[Redis], Any]] = {
    "an ID that is not UTF-8": lambda redis: redis.zadd(QUEUE, {b"\xff\xfe": due()}),
    "many such IDs": lambda redis: redis.zadd(QUEUE, {bytes([200, n]): due() for n in range(200)}),
    "a time of minus infinity": lambda redis: redis.zadd(QUEUE, {"odd": float("-inf")}),
    "times of zero": lambda redis: redis.zadd(QUEUE, {f"zero {n}": 0 for n in range(200)}),
    "a queue of another type": lambda redis: redis.set(QUEUE, "text"),
}
JOBS: dict[str, Callable[[Redis], Any]] = {
    "no job": lambda redis: redis.delete(KEY),
    "a job that is not JSON": lambda redis: redis.set(KEY, b"\x80\x04pickle"),
    "a job that is no object": lambda redis: redis.set(KEY, "[1]"),
    "a job of another type": lambda redis: redis.rpush(KEY, "a", "b"),
    "tries of another type": lambda redis: redis.rpush(TRIES, "a"),
    "an unknown function": lambda redis: redis.set(KEY, job(f="remove_everything")),
    "a function that is a list": lambda redis: redis.set(KEY, job(f=[])),
    "arguments that are a number": lambda redis: redis.set(KEY, job(a=7)),
    "tries that are text": lambda redis: redis.set(KEY, job(t="many")),
    "a time that is text": lambda redis: redis.set(KEY, job(et="noon")),
}


@pytest.mark.parametrize("name", [*MEMBERS, *JOBS])
async def test_what_cannot_be_read_is_dropped_and_the_doorbell_goes_on(stores, name):
    rung = asyncio.Event()
    async with open_redis(stores.redis.url, RedisSettings()) as redis:
        await redis.commands.flushdb()
        if name in JOBS:
            await JOBS[name](redis.commands)
            await redis.commands.zadd(QUEUE, {"odd": due()})
        else:
            await MEMBERS[name](redis.commands)
        listening = asyncio.create_task(listen(Doorbell(redis), rung.set))
        try:
            await eventually(lambda: _is_empty(redis.commands))
            rung.clear()
            await Doorbell(redis).ring("b-2")
            async with asyncio.timeout(10):
                await rung.wait()
            assert not listening.done()
        finally:
            await cancel_until_ended({listening})
            await redis.commands.flushdb()


async def _is_empty(redis) -> bool:
    return bool(await redis.type(QUEUE) == b"none")
