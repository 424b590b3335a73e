"""How batches and their results are listed, exported and watched."""

import asyncio

import pytest
from image_categorizer_server import clock
from image_categorizer_server.db import chunk as chunks
from image_categorizer_server.db import result as results
from image_categorizer_server.domain.batch import BatchConfig, BatchState
from image_categorizer_server.errors import (
    BatchNotFound,
    InvalidRequest,
)

from tests.support.batch_tools import (
    do_all,
    do_chunk,
    failed_outcome,
    links,
    numbered,
    right_outcome,
)
from tests.support.polling import elapsed


async def test_another_tenants_batch_does_not_exist(batches):
    made = await batches.create("t1", "key", BatchConfig(), numbered(5))
    await do_all()
    for call in (
        batches.get("t2", made.batch_id),
        batches.cancel("t2", made.batch_id),
        batches.retry("t2", made.batch_id),
        batches.delete("t2", made.batch_id),
        batches.results("t2", made.batch_id),
        anext(batches.export("t2", made.batch_id)),
        anext(batches.watch("t2", made.batch_id)),
    ):
        with pytest.raises(BatchNotFound):
            await call
    assert (await batches.list("t2")).items == []
    assert (await batches.get("t1", made.batch_id)).succeeded_count == 5


async def test_batches_are_listed_page_by_page(batches):
    made = [(await batches.create("t1", "key", BatchConfig(), links(1))).batch_id for _ in range(7)]
    await batches.cancel("t1", made[3])
    seen, token = [], ""
    while True:
        page = await batches.list("t1", 3, token)
        seen += [batch.batch_id for batch in page.items]
        if not (token := page.next_page_token):
            break
    assert seen == made[::-1]
    cancelled = await batches.list("t1", state=BatchState.CANCELLED)
    assert [batch.batch_id for batch in cancelled.items] == [made[3]]


@pytest.mark.parametrize(
    "token", ["x", "YQ==", "MSAA", "äöü", "OTk5OTk5OTk5OTk5OTk5OTk5OTkgYg==", "="]
)
async def test_a_token_that_is_none_is_refused(batches, token):
    with pytest.raises(InvalidRequest, match="page_token"):
        await batches.list("t1", page_token=token)
    with pytest.raises(InvalidRequest, match="page_token"):
        await batches.results("t1", "b-1", page_token=token)
    with pytest.raises(InvalidRequest, match="page_size"):
        await batches.list("t1", -1)


async def test_results_are_listed_while_the_batch_runs(batches):
    made = await batches.create("t1", "key", BatchConfig(), numbered(10))
    assert (await batches.results("t1", made.batch_id)).items == []
    chunk = await chunks.claim("w", 30)
    await results.record(
        chunk, [failed_outcome(chunk.items[0]), *map(right_outcome, chunk.items[1:])]
    )
    page = await batches.results("t1", made.batch_id)
    assert [result.number for result in page.items] == [0, 1, 2, 3]
    assert page.items[0].error.reason == "IMAGE_UNDECODABLE"
    assert (page.items[0].predictions, page.items[0].model) == ((), None)
    await do_all()
    seen, token = [], ""
    while True:
        page = await batches.results("t1", made.batch_id, 3, token)
        seen += [result.number for result in page.items]
        if not (token := page.next_page_token):
            break
    assert seen == list(range(10))
    exported = [result.filename async for result in batches.export("t1", made.batch_id)]
    assert exported == [f"f{n}.jpg" for n in range(10)]


async def test_a_watcher_sees_every_change_and_the_end(batches):
    made = await batches.create("t1", "key", BatchConfig(), numbered(12))
    seen = []

    async def watch():
        async for batch in batches.watch("t1", made.batch_id):
            seen.append(batch)  # noqa: PERF401 - looked at meanwhile

    watching = asyncio.create_task(watch())
    await elapsed(0.05)
    while chunk := await chunks.claim("w", 30):
        await elapsed(0.05)
        await do_chunk(chunk)
    await watching
    assert [batch.succeeded_count for batch in seen] == [0, 0, 4, 8, 12]
    assert seen[0].state is BatchState.QUEUED
    assert seen[-1].state is BatchState.COMPLETED
    assert seen[2].items_per_s > 0
    assert seen[2].remaining_s > 0
    assert (seen[-1].items_per_s, seen[-1].remaining_s) == (0, None)


async def test_the_rate_is_that_of_the_last_seconds(batches):
    made = await batches.create("t1", "key", BatchConfig(), numbered(80))
    for second in range(16):
        clock.shift(second)
        await do_chunk(await chunks.claim("w", 30))
    rate = (await batches.get("t1", made.batch_id)).items_per_s
    assert rate == pytest.approx(4, rel=0.15)
    clock.shift(60)  # nothing comes any more
    assert (await batches.get("t1", made.batch_id)).items_per_s < 1
