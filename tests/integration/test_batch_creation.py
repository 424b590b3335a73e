"""How batches are made: what they hold, what is refused, what a request id is for."""

import asyncio
import tracemalloc

import pytest
from image_categorizer_server import clock
from image_categorizer_server.db import chunk as chunks
from image_categorizer_server.domain.batch import BatchConfig, BatchState
from image_categorizer_server.domain.classification import ClassifyOptions
from image_categorizer_server.errors import (
    DependencyDown,
    ModelNotFound,
    RequestIdReused,
)
from image_categorizer_server.services.batch import BatchCheck, Batches
from image_categorizer_server.settings.batch import BatchSettings
from image_categorizer_server.stores.object_store import MemoryStorage

from tests.support.batch_tools import do_all, do_chunk, files, keys_of, links, numbered, sweep
from tests.support.polling import elapsed

DAY_S = 86_400


async def test_a_batch_remembers_how_it_is_to_be_run(batches):
    options = ClassifyOptions(
        model="fake",
        version="stable",
        confidence_threshold=0.25,
        top_k=3,
        include_categories=("a", "b"),
        bounding_boxes=True,
    )
    config = BatchConfig(options, "https://example.com/hook", "r1", 7)
    made = await batches.create("t1", "key", config, links(2))
    assert made.config == config
    assert (await chunks.claim("w", 30)).options == options


async def test_wrong_files_fail_and_the_others_go_on(batches, faultless):
    contents = [b"good", b"", b"x" * 1001, b"good too"]
    made = await batches.create("t1", "key", BatchConfig(), files(contents))
    assert (made.state, made.failed_count, made.pending_count) == (BatchState.QUEUED, 2, 2)
    reasons = [(failure.number, failure.error.reason) for failure in made.failures]
    assert reasons == [(1, "IMAGE_UNDECODABLE"), (2, "IMAGE_TOO_LARGE")]
    chunk = await chunks.claim("w", 30)
    assert [item.number for item in chunk.items] == [0, 3]
    assert await do_chunk(chunk)
    batch = await batches.retry("t1", made.batch_id)  # what was refused stays refused
    assert (batch.state, batch.succeeded_count) == (BatchState.COMPLETED, 2)
    await faultless()


async def test_where_every_file_is_wrong_the_batch_is_complete(batches, faultless):
    made = await batches.create("t1", "key", BatchConfig(), files([b""] * 5))
    assert (made.state, made.failed_count) == (BatchState.COMPLETED, 5)
    assert await chunks.claim("w", 30) is None
    await faultless()


async def test_failures_shown_are_the_first(batches):
    made = await batches.create("t1", "key", BatchConfig(), files([b""] * 30))
    assert [failure.number for failure in made.failures] == list(range(20))
    listed = (await batches.list("t1")).items
    assert listed[0].failures == made.failures


async def test_options_are_refused_before_anything_is_read(database, storage):
    async def refuse(_tenant_id, config):
        raise ModelNotFound(config.options.model)

    batches = Batches(storage, BatchSettings(), 1000, check=BatchCheck(refuse))
    with pytest.raises(ModelNotFound):
        await batches.create("t1", "key", BatchConfig(), numbered(3))
    assert await keys_of(storage) == []


async def test_a_slow_upload_says_that_it_goes_on(database, storage):
    batches = Batches(storage, BatchSettings(upload_lease_s=0.2), 1000)

    async def slow():
        async for item in links(2):
            yield item
            await elapsed(0.4)
            assert await batches.give_up_silent_uploads() == 0

    assert (await batches.create("t1", "key", BatchConfig(), slow())).item_count == 2


async def test_the_same_request_id_answers_with_the_same_batch(batches, faultless):
    config = BatchConfig(request_id="r1")
    first = await batches.create("t1", "key", config, numbered(5))
    again = await batches.create("t1", "key", config, numbered(5))
    assert again == first
    for other, items in (
        (config, numbered(6)),
        (config, numbered(5, "other")),
        (BatchConfig(request_id="r1", priority=1), numbered(5)),
        (BatchConfig(ClassifyOptions(top_k=1), request_id="r1"), numbered(5)),
        (BatchConfig(webhook_url="https://example.com", request_id="r1"), numbered(5)),
    ):
        with pytest.raises(RequestIdReused):
            await batches.create("t1", "key", other, items)
    other_tenant = await batches.create("t2", "key", config, numbered(6))
    assert other_tenant.batch_id != first.batch_id
    await do_all()
    await sweep(batches)
    await faultless(acknowledged=[first.batch_id, other_tenant.batch_id])


async def test_a_request_id_is_forgotten_after_a_day(batches):
    config = BatchConfig(request_id="r1")
    first = await batches.create("t1", "key", config, numbered(2))
    clock.shift(DAY_S - 10)
    assert (await batches.create("t1", "key", config, numbered(2))).batch_id == first.batch_id
    clock.shift(DAY_S + 1)
    later = await batches.create("t1", "key", config, numbered(3))
    assert later.batch_id != first.batch_id
    assert (await batches.get("t1", first.batch_id)).config.request_id == ""


async def test_of_equal_requests_at_once_one_becomes_the_batch(batches, faultless):
    config = BatchConfig(request_id="r1")
    made = await asyncio.gather(
        *(batches.create("t1", "key", config, numbered(10)) for _ in range(20))
    )
    assert len({batch.batch_id for batch in made}) == 1
    assert len((await batches.list("t1")).items) == 1
    await do_all()
    await sweep(batches)
    await faultless(acknowledged=[made[0].batch_id])


async def test_a_batch_is_created_though_no_worker_can_be_notified(database, storage):
    async def unreachable(batch_id):
        raise DependencyDown("redis does not answer")

    batches = Batches(storage, BatchSettings(), 1000, notify_workers=unreachable)
    made = await batches.create("t1", "key", BatchConfig(), links(1))
    assert made.state is BatchState.QUEUED


async def test_a_large_upload_takes_little_memory(database):
    class Nowhere(MemoryStorage):
        async def put(self, key, content):
            pass

    batches = Batches(Nowhere(), BatchSettings(), 1000)
    await batches.create("t1", "key", BatchConfig(), numbered(10))
    tracemalloc.start()
    try:
        made = await batches.create("t1", "key", BatchConfig(), numbered(20_000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert made.item_count == 20_000
    assert peak < 5_000_000
