"""How an upload stores its images: several at a time, in bounded memory, none left behind."""

import asyncio
import gc
import time

import pytest
from image_categorizer_server.domain.batch import BatchConfig
from image_categorizer_server.errors import BatchTooLarge, DependencyDown
from image_categorizer_server.services.batch import Batches
from image_categorizer_server.services.upload import NewItem
from image_categorizer_server.settings.batch import BatchSettings
from image_categorizer_server.stores.object_store import MemoryStorage

from tests.support import invariants as ledger
from tests.support.batch_tools import do_all, keys_of, numbered, pieces, sweep
from tests.support.polling import elapsed, eventually

MAX_IMAGE_BYTES = 1000


class Slow(MemoryStorage):
    """A storage across a network: records how much it stores at a time."""

    def __init__(self, delay_s, failing=b""):
        super().__init__()
        self.delay_s = delay_s
        self.failing = failing
        self.under_way = []
        self.most = 0
        self.most_bytes = 0
        self.flushed = []

    async def put(self, key, content):
        self.under_way.append(content)
        self.most = max(self.most, len(self.under_way))
        self.most_bytes = max(self.most_bytes, sum(map(len, self.under_way)))
        try:
            await elapsed(self.delay_s)
            if content == self.failing:
                raise DependencyDown("the image storage does not answer")
            await super().put(key, content)
        finally:
            self.under_way.remove(content)

    async def flush(self):
        self.flushed.append(sorted(await keys_of(self)))


@pytest.fixture
def storage():
    return Slow(0.02)


@pytest.fixture
def batches(database, storage):
    return batches_on(storage)


def batches_on(storage, **settings):
    limits = {"max_concurrent_writes": 4, "chunk_items": 4} | settings
    return Batches(storage, BatchSettings(**limits), MAX_IMAGE_BYTES)


async def sized(sizes):
    for number, size in enumerate(sizes):
        yield NewItem(f"{number}.jpg", pieces(bytes([number]) * size), None)


async def test_several_are_stored_at_a_time_and_keep_their_numbers(
    batches, storage, empty_database
):
    begin_s = time.perf_counter()
    batch = await batches.create("t1", "key", BatchConfig(), numbered(40))
    took_s = time.perf_counter() - begin_s
    assert (storage.most, batch.item_count) == (4, 40)
    assert took_s < 40 * storage.delay_s * 0.7
    await do_all()
    results = (await batches.results("t1", batch.batch_id, 100)).items
    assert [r.filename for r in results] == [f"f{number}.jpg" for number in range(40)]
    assert not await ledger.find_faults(empty_database, [batch.batch_id], storage)


async def test_bytes_bound_them_too(batches, storage):
    """No more is being stored at a time than one image may have."""
    await batches.create("t1", "key", BatchConfig(), sized([900, 600, 600, 100, 100, 100, 100]))
    assert storage.most_bytes <= MAX_IMAGE_BYTES
    assert storage.most == 4


async def test_an_upload_waits_for_all_and_flushes_before_it_is_a_batch(batches, storage):
    batch = await batches.create("t1", "key", BatchConfig(), numbered(3))
    assert batch.item_count == 3
    assert storage.flushed == [sorted(await keys_of(storage))]
    assert len(storage.flushed[0]) == 3


@pytest.mark.parametrize("position", [0, 5, 9])
async def test_one_that_cannot_be_stored_makes_it_no_batch(empty_database, database, position):
    storage = Slow(0.02, failing=f"f {position}".encode())
    batches = batches_on(storage)
    with pytest.raises(DependencyDown):
        await batches.create("t1", "key", BatchConfig(), numbered(10))
    assert not storage.under_way
    await sweep(batches)
    assert not await keys_of(storage)
    assert not await ledger.find_faults(empty_database, (), storage)


async def test_of_several_that_fail_at_once_none_is_forgotten(database):
    class Down(MemoryStorage):
        async def put(self, key, content):
            raise DependencyDown("the image storage does not answer")

    unseen = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
    batches = batches_on(Down())
    with pytest.raises(DependencyDown):
        await batches.create("t1", "key", BatchConfig(), numbered(10))
    gc.collect()
    assert not unseen


async def test_a_call_that_is_cancelled_while_images_are_being_stored_keeps_none(database):
    storage = Slow(0.3)
    batches = batches_on(storage)

    async def endless():
        async for item in numbered(3):
            yield item
        await asyncio.Event().wait()

    call = asyncio.create_task(batches.create("t1", "key", BatchConfig(), endless()))
    await eventually(lambda: len(storage.under_way) == 3)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await eventually(lambda: not storage.under_way)
    await sweep(batches)
    assert not await keys_of(storage)


async def test_too_many_bytes_are_refused_before_they_are_stored(database, storage):
    batches = batches_on(storage, max_bytes=1500)
    with pytest.raises(BatchTooLarge):
        await batches.create("t1", "key", BatchConfig(), sized([900, 900]))
    await sweep(batches)
    assert not await keys_of(storage)
