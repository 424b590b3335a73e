"""Chunks, leases, outcomes: batches on PostgreSQL."""

import asyncio
from collections import Counter

from image_categorizer_server import clock
from image_categorizer_server.db import batch as rows
from image_categorizer_server.db import chunk as chunks
from image_categorizer_server.db import outbox
from image_categorizer_server.db import result as results
from image_categorizer_server.domain.batch import BatchConfig, BatchState
from image_categorizer_server.domain.outbox import OutboxKind

from tests.support.batch_tools import (
    LEASE_S,
    count_undone,
    do_all,
    do_chunk,
    files,
    links,
    make_batch,
    right_outcome,
)


async def test_a_batch_goes_from_queued_to_completed(batches, faultless):
    batch_id = await make_batch(batches, 10)
    batch = await batches.get("t1", batch_id)
    assert (batch.state, batch.item_count, batch.pending_count) == (BatchState.QUEUED, 10, 10)
    assert (batch.start_time, batch.end_time) == (None, None)
    chunk = await chunks.claim("w", LEASE_S)
    assert [item.filename for item in chunk.items] == ["f0.jpg", "f1.jpg", "f2.jpg", "f3.jpg"]
    assert (await batches.get("t1", batch_id)).state is BatchState.RUNNING
    assert await do_chunk(chunk)
    assert await do_all() == 6
    batch = await batches.get("t1", batch_id)
    assert (batch.state, batch.succeeded_count, batch.pending_count) == (
        BatchState.COMPLETED,
        10,
        0,
    )
    assert batch.create_time <= batch.start_time <= batch.end_time
    await faultless(acknowledged=[batch_id])


async def test_what_was_written_is_read_back_whole(batches):
    batch_id = await make_batch(batches, 1)
    chunk = await chunks.claim("w", LEASE_S)
    outcome = right_outcome(chunk.items[0])
    await results.record(chunk, [outcome])
    (result,) = (await batches.results("t1", batch_id)).items
    assert list(result.predictions) == outcome.classification.predictions
    assert result.model == outcome.classification.model
    assert (result.number, result.filename, result.error) == (0, "f0.jpg", None)


async def test_chunks_are_claimed_once_each_by_many_at_once(batches, faultless):
    batch_id = await make_batch(batches, 200)
    claimed = []

    async def worker(name):
        while chunk := await chunks.claim(name, LEASE_S):
            claimed.append((chunk.number, chunk.lease_token))
            await do_chunk(chunk)

    await asyncio.gather(*(worker(f"w{n}") for n in range(12)))
    assert Counter(number for number, _ in claimed) == Counter(range(50))
    assert len({token for _, token in claimed}) == 50
    await faultless(acknowledged=[batch_id])


async def test_an_expired_lease_that_nobody_took_is_still_good(batches, faultless):
    await make_batch(batches, 4)
    chunk = await chunks.claim("slow", LEASE_S)
    clock.shift(LEASE_S + 1)
    assert await do_chunk(chunk)
    assert await chunks.expire() == 0
    await faultless()


async def test_a_heartbeat_keeps_the_lease(batches):
    await make_batch(batches, 4)
    chunk = await chunks.claim("w", LEASE_S)
    for elapsed_s in (20, 40, 60):
        clock.shift(elapsed_s)
        assert await chunks.extend(chunk, LEASE_S)
        assert await chunks.expire() == 0
    clock.shift(91)
    assert await chunks.expire() == 1


async def test_outcomes_of_other_chunks_are_ignored(batches, faultless):
    await make_batch(batches, 8)
    first, second = await chunks.claim("a", LEASE_S), await chunks.claim("b", LEASE_S)
    assert await results.record(first, [right_outcome(item) for item in second.items])
    assert await do_chunk(first)
    assert await do_chunk(second)
    await faultless()


async def test_what_is_given_back_with_a_delay_waits(batches):
    await make_batch(batches, 8)
    chunk = await chunks.claim("w", LEASE_S)
    await chunks.give_back(chunk, delay_s=10)
    assert (await chunks.claim("w", LEASE_S)).number == 1
    assert await chunks.claim("w", LEASE_S) is None
    clock.shift(11)
    assert (await chunks.claim("w", LEASE_S)).number == chunk.number


async def test_what_is_given_back_goes_first(batches):
    await make_batch(batches, 8)
    chunk = await chunks.claim("w", LEASE_S)
    await chunks.give_back(chunk)
    assert (await chunks.claim("w", LEASE_S)).number == chunk.number


async def test_tenants_are_served_evenly_however_much_one_has(batches):
    """R9: the tenant with the fewest leased chunks goes first."""
    for _ in range(5):
        await make_batch(batches, 40, tenant="a")
    await make_batch(batches, 8, tenant="b")
    await make_batch(batches, 8, tenant="c")
    order = [(await chunks.claim("w", LEASE_S)).tenant_id for _ in range(9)]
    assert Counter(order[:3]) == Counter("abc")
    assert Counter(order[3:6]) == Counter("abc")
    assert order[6:] == ["a", "a", "a"]


async def test_of_equals_no_tenant_waits_for_ever(batches):
    for tenant in "ab":
        await make_batch(batches, 200, tenant=tenant)
    served = Counter()
    for _ in range(60):  # one worker: nobody has anything leased when it claims
        chunk = await chunks.claim("w", LEASE_S)
        served[chunk.tenant_id] += 1
        await do_chunk(chunk)
    assert min(served.values()) > 60 / 2 / 2


async def test_priority_goes_first_and_then_age(batches):
    ids = [await make_batch(batches, 4, priority=p) for p in (0, 0, 10, -10)]
    order = [(await chunks.claim("w", LEASE_S)).batch_id for _ in range(4)]
    assert order == [ids[2], ids[0], ids[1], ids[3]]


async def test_the_outbox_offers_again_what_is_not_reported_done(batches):
    batch_id = await make_batch(batches, 4)
    (row,) = await outbox.take([OutboxKind.DOORBELL], 10, lease_s=5)
    assert (row.batch_id, row.tenant_id) == (batch_id, "t1")
    assert await outbox.take([OutboxKind.DOORBELL], 10) == []
    clock.shift(6)
    (again,) = await outbox.take([OutboxKind.DOORBELL], 10)
    assert again.outbox_id == row.outbox_id
    await outbox.done([row.outbox_id])
    clock.shift(100)
    assert await outbox.take([OutboxKind.DOORBELL], 10) == []
    await do_all()
    assert await count_undone() == 1
    (message,) = await outbox.take([OutboxKind.WEBHOOK], 10)
    await outbox.done([message.outbox_id])
    assert await count_undone() == 0


async def test_links_are_claimed_like_files(batches, faultless):
    batch = await batches.create("t1", "key", BatchConfig(), links(3))
    chunk = await chunks.claim("w", LEASE_S)
    assert [item.image_uri for item in chunk.items] == [
        f"https://example.com/{n}.jpg" for n in range(3)
    ]
    assert chunk.items[0].object_key is None
    await do_chunk(chunk)
    assert (await rows.find("t1", batch.batch_id)).state is BatchState.COMPLETED
    await faultless()


async def test_one_picture_many_times_is_stored_once(batches, storage, faultless):
    await batches.create("t1", "key", BatchConfig(), files([b"same"] * 9))
    assert len([found async for found in storage.list()]) == 1
    await do_all()
    await faultless()
