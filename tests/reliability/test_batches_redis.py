"""Redis loses everything, three ways."""

import asyncio
import shutil
import signal
import time

import pytest
from redis.asyncio import Redis

from tests.conftest import SLACK_S
from tests.support.house import House
from tests.support.ledger import Ledger, pictures


async def flush(house: House) -> None:
    async with Redis.from_url(house.redis.url) as redis:
        await redis.flushall()


async def lose_the_data(house: House) -> None:
    """Kills Redis, removes what it wrote and starts it again."""
    await house.stop_redis(signal.SIGKILL)
    shutil.rmtree(house.redis_data)
    await asyncio.sleep(1)
    await house.start_redis()


async def go_back(house: House) -> None:
    """Kills Redis and starts it again as it was before the last batches."""
    await house.stop_redis(signal.SIGKILL)
    shutil.rmtree(house.redis_data)
    shutil.copytree(house.redis_data.with_name("redis-before"), house.redis_data)
    await asyncio.sleep(1)
    await house.start_redis()


async def run(house: House, ledger: Ledger, lose, queued: int, items: int) -> float:
    """Runs batches through a loss of Redis; returns how long after it all were done."""
    await house.start_server(CATEGORIZER_TEST__FAKE_MODEL="10,2")
    await house.submit(ledger, pictures(items, 1000))
    await house.stop_redis()
    before = house.redis_data.with_name("redis-before")
    shutil.rmtree(before, ignore_errors=True)
    shutil.copytree(house.redis_data, before)
    await house.start_redis()
    workers = house.start_workers(2)
    for seed in range(queued):
        await house.submit(ledger, pictures(items, seed))
    await lose(house)
    start_s = time.monotonic()
    await house.submit(ledger, pictures(items, 2000))
    await house.drained(60)
    await ledger.check(house.postgres.url, house.images)
    assert workers.poll() is None
    assert "ended with status" not in house.log("workers")
    return time.monotonic() - start_s


@pytest.mark.parametrize("lose", [flush, lose_the_data, go_back])
async def test_nothing_is_lost_with_redis(house, ledger, lose):
    seconds = await run(house, ledger, lose, 8, 50)
    print(f"{lose.__name__}: all done {seconds:.1f} s after")


async def test_without_redis_batches_are_accepted_at_once_and_done_all_the_same(house, ledger):
    await house.start_server()
    house.start_workers(1)
    await house.stop_redis(signal.SIGKILL)
    try:
        start_s = time.monotonic()
        await house.submit(ledger, pictures(50))
        assert time.monotonic() - start_s < SLACK_S
        # The bell stays in the outbox: drained is what the chunks are.
        await house.until("SELECT count(*) = 0 FROM batch_chunks WHERE state <> 'DONE'", 20)
    finally:
        await house.start_redis()
    await house.drained(20)
    await ledger.check(house.postgres.url, house.images)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("lose", [flush, lose_the_data, go_back])
async def test_r2_a_hundred_batches(house, ledger, lose):
    seconds = await run(house, ledger, lose, 110, 50)
    assert seconds <= 60
    print(f"{lose.__name__}: {ledger.item_count} items, all done {seconds:.1f} s after")
