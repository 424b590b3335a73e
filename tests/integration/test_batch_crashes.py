"""Workers that crash over a chunk: what is repeated, isolated and failed, on PostgreSQL."""

import asyncio

from image_categorizer_server import clock
from image_categorizer_server.db import chunk as chunks
from image_categorizer_server.db import outbox
from image_categorizer_server.db import result as results
from image_categorizer_server.domain.batch import BatchState
from image_categorizer_server.domain.outbox import OutboxKind

from tests.support.batch_tools import (
    LEASE_S,
    count_waiting,
    do_all,
    do_chunk,
    failed_outcome,
    make_batch,
    right_outcome,
)


async def test_a_worker_that_was_thought_dead_can_write_nothing(batches, faultless):
    await make_batch(batches, 4)
    late = await chunks.claim("late", LEASE_S)
    assert await chunks.claim("other", LEASE_S) is None
    assert await chunks.expire() == 0
    clock.shift(LEASE_S + 1)
    assert await chunks.expire() == 1
    assert not await do_chunk(late)
    assert not await chunks.extend(late, LEASE_S)
    assert not await chunks.give_back(late)
    assert not await chunks.record_crash(late)
    assert not await chunks.fail_batch(late, "no")
    heir = await chunks.claim("heir", LEASE_S)
    assert (heir.number, heir.worker_crashes) == (late.number, 1)
    assert heir.lease_token > late.lease_token
    assert not await do_chunk(late)
    assert await do_chunk(heir)
    await faultless()


async def test_an_heir_gets_only_what_has_no_outcome(batches, faultless):
    batch_id = await make_batch(batches, 4)
    chunk = await chunks.claim("w", LEASE_S)
    done = [right_outcome(chunk.items[0]), failed_outcome(chunk.items[2])]
    assert await results.record(chunk, done)
    assert await results.record(chunk, done)  # the first answer may have been lost
    batch = await batches.get("t1", batch_id)
    assert (batch.succeeded_count, batch.failed_count, batch.pending_count) == (1, 1, 2)
    await chunks.give_back(chunk)
    heir = await chunks.claim("heir", LEASE_S)
    assert [item.number for item in heir.items] == [1, 3]
    assert heir.worker_crashes == 0
    rest = [failed_outcome(heir.items[0]), *done, *map(right_outcome, heir.items)]
    assert await results.record(heir, rest)
    batch = await batches.get("t1", batch_id)
    assert (batch.state, batch.succeeded_count, batch.failed_count) == (BatchState.COMPLETED, 2, 2)
    await faultless()


async def test_an_item_that_crashes_workers_is_found_and_the_others_go_on(batches, faultless):
    """R5: two crashes of the whole chunk, a third one of the isolated item."""
    batch_id = await make_batch(batches, 10)
    deadly, crashes, shift_s = 5, 0, 0.0
    while True:
        while chunk := await chunks.claim("w", LEASE_S):
            if deadly in [item.number for item in chunk.items]:
                crashes += 1
                if chunk.is_isolated:  # its parent sees the child crash
                    assert await chunks.record_crash(chunk)
            else:
                assert await do_chunk(chunk)
        shift_s += LEASE_S + 1
        clock.shift(shift_s)
        if not await chunks.expire():
            break
    assert crashes == 3
    batch = await batches.get("t1", batch_id)
    assert (batch.state, batch.succeeded_count, batch.failed_count) == (BatchState.COMPLETED, 9, 1)
    (failure,) = batch.failures
    assert (failure.number, failure.error.reason) == (deadly, "ITEM_KILLED_WORKERS")
    await faultless()


async def test_an_item_does_not_fail_for_crashes_that_took_its_parent_too(batches, faultless):
    batch_id = await make_batch(batches, 1)
    for number in range(5):
        chunk = await chunks.claim("w", LEASE_S)
        assert (chunk.worker_crashes, chunk.is_isolated) == (number, number >= 2)
        clock.shift((number + 1) * (LEASE_S + 1))
        assert await chunks.expire() == 1
    assert await do_all() == 1
    assert (await batches.get("t1", batch_id)).succeeded_count == 1
    await faultless()


async def test_the_crash_of_a_child_counts_at_once(batches, faultless):
    await make_batch(batches, 1)
    for crashes in range(3):
        chunk = await chunks.claim("w", LEASE_S)
        assert (chunk.worker_crashes, chunk.is_isolated) == (crashes, crashes == 2)
        assert await chunks.record_crash(chunk)
    assert await chunks.claim("w", LEASE_S) is None
    await faultless()


async def test_a_split_chunk_keeps_what_was_done(batches, faultless):
    await make_batch(batches, 4)
    chunk = await chunks.claim("w", LEASE_S)
    await results.record(chunk, [right_outcome(chunk.items[1])])
    await chunks.record_crash(chunk)
    await chunks.record_crash(await chunks.claim("w", LEASE_S))
    isolated = [await chunks.claim("w", LEASE_S) for _ in range(3)]
    assert [[item.number for item in chunk.items] for chunk in isolated] == [[0], [2], [3]]
    assert all(chunk.is_isolated for chunk in isolated)
    for chunk in isolated:
        assert await do_chunk(chunk)
    await faultless()


async def test_one_sweeper_expires_leases_at_a_time(batches):
    for _ in range(5):
        await make_batch(batches, 8)
    while await chunks.claim("dead", LEASE_S):
        pass
    clock.shift(LEASE_S + 1)
    found = await asyncio.gather(*(chunks.expire() for _ in range(6)))
    assert sum(found) == 10
    assert await count_waiting() == 40


async def test_an_expired_lease_notifies_workers(batches):
    await make_batch(batches, 4)
    await outbox.done([row.outbox_id for row in await outbox.take([OutboxKind.DOORBELL], 10)])
    await chunks.claim("w", LEASE_S)
    clock.shift(LEASE_S + 1)
    await chunks.expire()
    assert len(await outbox.take([OutboxKind.DOORBELL], 10)) == 1
