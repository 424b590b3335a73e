"""Redis loses its data in three ways."""

import shutil
import signal
import time

import pytest
from redis.asyncio import Redis

from tests.conftest import SLACK_S
from tests.support.cluster import Cluster
from tests.support.ledger import Ledger, pictures
from tests.support.polling import elapsed


async def flush(cluster: Cluster) -> None:
    async with Redis.from_url(cluster.redis.url) as redis:
        await redis.flushall()


async def lose_the_data(cluster: Cluster) -> None:
    """Kills Redis, removes its files and starts it again."""
    await cluster.stop_redis(signal.SIGKILL)
    shutil.rmtree(cluster.redis_data)
    await elapsed(1)
    await cluster.start_redis()


async def go_back(cluster: Cluster) -> None:
    """Kills Redis and starts it with the files from before the last batches."""
    await cluster.stop_redis(signal.SIGKILL)
    shutil.rmtree(cluster.redis_data)
    shutil.copytree(cluster.redis_data.with_name("redis-before"), cluster.redis_data)
    await elapsed(1)
    await cluster.start_redis()


async def run(cluster: Cluster, ledger: Ledger, lose, queued: int, items: int) -> float:
    """Runs batches during a loss of Redis. Returns the seconds until all were done."""
    await cluster.start_server(CATEGORIZER_TEST__FAKE_MODEL="10,2")
    await cluster.submit(ledger, pictures(items, 1000))
    await cluster.stop_redis()
    before = cluster.redis_data.with_name("redis-before")
    shutil.rmtree(before, ignore_errors=True)
    shutil.copytree(cluster.redis_data, before)
    await cluster.start_redis()
    workers = cluster.start_workers(2)
    for seed in range(queued):
        await cluster.submit(ledger, pictures(items, seed))
    await lose(cluster)
    start_s = time.monotonic()
    await cluster.submit(ledger, pictures(items, 2000))
    await cluster.drained(60)
    await ledger.check(cluster.postgres.url, cluster.images)
    assert workers.poll() is None
    assert "ended with status" not in cluster.log("workers")
    return time.monotonic() - start_s


@pytest.mark.parametrize(
    "lose",
    [flush, *(pytest.param(lose, marks=pytest.mark.slow) for lose in (lose_the_data, go_back))],
)
async def test_no_batch_is_lost_when_redis_loses_its_data(cluster, ledger, lose):
    seconds = await run(cluster, ledger, lose, 8, 50)
    print(f"{lose.__name__}: all done {seconds:.1f} s after")


@pytest.mark.slow
async def test_without_redis_batches_are_accepted_at_once_and_completed(cluster, ledger):
    await cluster.start_server()
    cluster.start_workers(1)
    await cluster.stop_redis(signal.SIGKILL)
    try:
        start_s = time.monotonic()
        await cluster.submit(ledger, pictures(50))
        assert time.monotonic() - start_s < SLACK_S
        # The notification stays in the outbox, so look at the chunks instead.
        await cluster.until("SELECT count(*) = 0 FROM batch_chunks WHERE state <> 'DONE'", 20)
    finally:
        await cluster.start_redis()
    await cluster.drained(20)
    await ledger.check(cluster.postgres.url, cluster.images)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("lose", [flush, lose_the_data, go_back])
async def test_r2_a_hundred_batches(cluster, ledger, lose):
    seconds = await run(cluster, ledger, lose, 110, 50)
    assert seconds <= 60
    print(f"{lose.__name__}: {ledger.item_count} items, all done {seconds:.1f} s after")
