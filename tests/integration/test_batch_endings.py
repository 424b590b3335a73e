"""How batches are cancelled, retried, failed and deleted, on a real PostgreSQL."""

import pytest
from image_categorizer_server import clock
from image_categorizer_server.db import chunk as chunks
from image_categorizer_server.db import outbox
from image_categorizer_server.db import result as results
from image_categorizer_server.domain.batch import BatchState
from image_categorizer_server.domain.outbox import OutboxKind
from image_categorizer_server.errors import BatchRunning

from tests.support.batch_tools import (
    LEASE_S,
    do_all,
    do_chunk,
    failed_outcome,
    make_batch,
    right_outcome,
    sweep,
)


async def test_a_cancelled_batch_finishes_what_is_under_way(batches, faultless):
    batch_id = await make_batch(batches, 12)
    chunk = await chunks.claim("w", LEASE_S)
    assert (await batches.cancel("t1", batch_id)).state is BatchState.CANCELLING
    assert await chunks.claim("w", LEASE_S) is None
    assert (await batches.cancel("t1", batch_id)).state is BatchState.CANCELLING
    assert await do_chunk(chunk)
    batch = await batches.cancel("t1", batch_id)
    assert (batch.state, batch.succeeded_count, batch.pending_count) == (BatchState.CANCELLED, 4, 8)
    await faultless()


@pytest.mark.parametrize("ending", ["given back", "expired", "crashed"])
async def test_a_cancelled_batch_ends_however_its_last_lease_does(batches, ending, faultless):
    batch_id = await make_batch(batches, 4)
    chunk = await chunks.claim("w", LEASE_S)
    await batches.cancel("t1", batch_id)
    if ending == "given back":
        assert await chunks.give_back(chunk)
    elif ending == "crashed":
        assert await chunks.record_crash(chunk)
    else:
        clock.shift(LEASE_S + 1)
        assert await chunks.expire() == 1
    assert (await batches.get("t1", batch_id)).state is BatchState.CANCELLED
    assert await chunks.claim("w", LEASE_S) is None
    await faultless()


async def test_a_batch_cancelled_before_it_began_is_over_at_once(batches, faultless):
    batch_id = await make_batch(batches, 4)
    batch = await batches.cancel("t1", batch_id)
    assert (batch.state, batch.pending_count, batch.start_time) == (BatchState.CANCELLED, 4, None)
    await faultless()


async def test_cancelling_what_has_all_outcomes_leaves_it_completed(batches):
    batch_id = await make_batch(batches, 4)
    chunk = await chunks.claim("w", LEASE_S)
    await batches.cancel("t1", batch_id)
    await do_chunk(chunk)
    assert (await batches.cancel("t1", batch_id)).state is BatchState.COMPLETED


async def test_retrying_does_failed_and_pending_items_again(batches, faultless):
    batch_id = await make_batch(batches, 12)
    chunk = await chunks.claim("w", LEASE_S)
    with pytest.raises(BatchRunning):
        await batches.retry("t1", batch_id)
    bad, *good = chunk.items
    await results.record(chunk, [failed_outcome(bad), *map(right_outcome, good)])
    await batches.cancel("t1", batch_id)
    batch = await batches.retry("t1", batch_id)
    assert (batch.state, batch.failed_count, batch.pending_count) == (BatchState.QUEUED, 0, 9)
    assert (batch.start_time, batch.end_time) == (None, None)
    await faultless(must_have_ended=False)
    assert await do_all() == 9
    batch = await batches.retry("t1", batch_id)  # there is nothing
    assert (batch.state, batch.succeeded_count) == (BatchState.COMPLETED, 12)
    ends = [row.payload for row in await outbox.take([OutboxKind.WEBHOOK], 9)]
    assert [(end["type"], end["run"]) for end in ends] == [
        ("batch.cancelled", 1),
        ("batch.completed", 2),
    ]
    await faultless()


async def test_a_lease_from_before_a_retry_is_worth_nothing(batches, faultless):
    batch_id = await make_batch(batches, 4)
    old = await chunks.claim("w", LEASE_S)
    await chunks.give_back(old)
    await batches.cancel("t1", batch_id)
    await batches.retry("t1", batch_id)
    assert not await do_chunk(old)
    assert await do_all() == 4
    await faultless()


async def test_a_batch_that_cannot_run_fails_and_takes_its_leases_with_it(batches, faultless):
    batch_id = await make_batch(batches, 12)
    first, second = await chunks.claim("a", LEASE_S), await chunks.claim("b", LEASE_S)
    assert await chunks.fail_batch(first, "the model is gone")
    assert not await do_chunk(second)
    assert await chunks.claim("w", LEASE_S) is None
    batch = await batches.get("t1", batch_id)
    assert (batch.state, batch.state_message) == (BatchState.FAILED, "the model is gone")
    await faultless()
    await batches.retry("t1", batch_id)
    assert await do_all() == 12
    assert (await batches.get("t1", batch_id)).state_message == ""


async def test_a_batch_that_was_failed_and_deleted_is_no_trouble(batches, faultless):
    batch_id = await make_batch(batches, 8)
    first, second = await chunks.claim("a", LEASE_S), await chunks.claim("b", LEASE_S)
    await chunks.fail_batch(first, "no")
    await batches.delete("t1", batch_id)
    assert not await do_chunk(second)
    assert not await chunks.extend(second, LEASE_S)
    assert not await chunks.give_back(second)
    await sweep(batches)
    await faultless()
