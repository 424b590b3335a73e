"""Quotas of batches: a whole batch is refused before it exists, or counted to the last image."""

import asyncio

import pytest
from image_categorizer_server.domain.batch import BatchConfig, BatchState
from image_categorizer_server.errors import QuotaExceeded, UndecodableImage
from image_categorizer_server.services.batch import BatchCheck, Batches
from image_categorizer_server.services.limit import Limiter
from image_categorizer_server.settings.batch import BatchSettings
from image_categorizer_server.settings.database import RedisSettings
from image_categorizer_server.settings.limit import QuotaSettings
from image_categorizer_server.stores.limiter import RedisLimiter
from image_categorizer_server.stores.redis import open_redis
from image_categorizer_server.tasks import TaskOwner

from tests.support.batch_tools import do_all, files, keys_of, make_batch, numbered, sweep


@pytest.fixture
async def limited(stores, database, storage):
    """Returns a function that returns batches with quotas."""
    async with open_redis(stores.redis.url, RedisSettings()) as redis, TaskOwner() as tasks:
        await redis.commands.flushall()

        async def accept(_tenant_id, _config):
            pass

        def make(**quota) -> Batches:
            limiter = Limiter(RedisLimiter(redis, 2.0, tasks), QuotaSettings(**quota))
            check = BatchCheck(accept, limiter)
            return Batches(storage, BatchSettings(chunk_items=4), 1000, check=check)

        yield make


async def outcomes(*creating) -> tuple[int, int]:
    """Returns how many batches were made, and how many refused."""
    done = await asyncio.gather(*creating, return_exceptions=True)
    refused = [outcome for outcome in done if isinstance(outcome, QuotaExceeded)]
    made = [outcome for outcome in done if not isinstance(outcome, BaseException)]
    assert len(made) + len(refused) == len(done), done
    return len(made), len(refused)


async def test_a_batch_of_more_images_than_are_left_is_refused_as_a_whole(limited, storage):
    batches = limited(images_per_day=10)
    await make_batch(batches, 7)
    kept = await keys_of(storage)
    with pytest.raises(QuotaExceeded, match="there are 4 images, and 3 of the 10") as caught:
        await make_batch(batches, 4)
    assert 0 < caught.value.retry_after_s <= 86_400
    assert caught.value.quota == "images_per_day"
    assert len((await batches.list("t1")).items) == 1
    await sweep(batches)
    assert await keys_of(storage) == kept
    await make_batch(batches, 3)  # nothing was taken for what was refused
    await make_batch(batches, 10, tenant="t2")


async def test_batches_at_once_never_exceed_the_quota_together(limited):
    batches = limited(images_per_day=10)
    creating = (make_batch(batches, 3) for _ in range(8))
    assert await outcomes(*creating) == (3, 5)


async def test_a_repeated_request_counts_once_also_when_nothing_is_left(limited):
    batches = limited(images_per_day=4)
    config = BatchConfig(request_id="r1")
    creating = (batches.create("t1", "key", config, numbered(4)) for _ in range(3))
    names = {batch.batch_id for batch in await asyncio.gather(*creating)}
    again = await batches.create("t1", "key", config, numbered(4))
    assert names == {again.batch_id}


async def test_of_several_equal_requests_only_one_is_counted(limited):
    batches = limited(images_per_day=8)
    config = BatchConfig(request_id="r1")
    creating = (batches.create("t1", "key", config, numbered(2)) for _ in range(4))
    await asyncio.gather(*creating)
    await make_batch(batches, 6)


async def test_batches_that_have_not_ended_are_limited(limited):
    batches = limited(concurrent_batches=2)
    creating = (make_batch(batches, 1) for _ in range(6))
    assert await outcomes(*creating) == (2, 4)
    await make_batch(batches, 1, tenant="t2")
    await do_all()
    await make_batch(batches, 1)


async def test_a_retried_batch_counts_as_a_new_one(limited):
    batches = limited(concurrent_batches=1, images_per_day=7)
    batch_id = await make_batch(batches, 4)
    await do_all(bad=frozenset({1, 2}))
    other = await make_batch(batches, 1)
    with pytest.raises(QuotaExceeded, match="have not ended"):
        await batches.retry("t1", batch_id)
    assert (await batches.get("t1", batch_id)).failed_count == 2
    await batches.cancel("t1", other)
    assert (await batches.retry("t1", batch_id)).state is BatchState.QUEUED
    await do_all()
    with pytest.raises(QuotaExceeded, match="0 of the 7 images"):
        await make_batch(batches, 1)


async def test_stored_bytes_are_limited_and_free_again_once_a_batch_is_deleted(limited):
    batches = limited(stored_bytes=1000)
    made = await batches.create("t1", "key", BatchConfig(), files([b"x" * 300, b"y" * 300]))
    config, items = BatchConfig(), [b"z" * 300, b"w" * 101]
    with pytest.raises(QuotaExceeded, match="401 bytes, and 400 of the tenant's 1000"):
        await batches.create("t1", "key", config, files(items))
    await do_all()
    await batches.delete("t1", made.batch_id)
    await batches.create("t1", "key", config, files(items))


async def test_an_upload_that_breaks_takes_nothing(limited):
    batches = limited(images_per_day=2)

    async def broken():
        async for item in numbered(2):
            yield item
        raise UndecodableImage("the zip file is damaged")

    with pytest.raises(UndecodableImage):
        await batches.create("t1", "key", BatchConfig(), broken())
    await make_batch(batches, 2)
