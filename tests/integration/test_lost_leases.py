"""Leases that end without a crash: lost answers, and a database outage."""

from datetime import timedelta

from image_categorizer_server import clock
from image_categorizer_server.db import chunk as chunks
from image_categorizer_server.db import result as results

from tests.support.batch_tools import LEASE_S, do_all, make_batch, right_outcome


async def test_a_claim_with_a_lost_answer_is_given_back_and_no_other(batches, faultless):
    await make_batch(batches, 12)
    kept = await chunks.claim("w", LEASE_S)
    lost = await chunks.claim("w", LEASE_S)
    others = await chunks.claim("other", LEASE_S)
    assert await chunks.give_back_lost("w", [kept.lease_token]) == 1
    assert await chunks.give_back_lost("w", [kept.lease_token]) == 0
    assert not await results.record(lost, [right_outcome(item) for item in lost.items])
    for chunk in kept, others:
        assert await results.record(chunk, [right_outcome(item) for item in chunk.items])
    again = await chunks.claim("w", LEASE_S)
    assert (again.number, again.worker_crashes) == (lost.number, 0)
    await chunks.give_back(again)
    await do_all()
    await faultless()


async def test_a_lease_that_ended_while_the_database_was_away_counts_no_crash(batches, faultless):
    await make_batch(batches, 4)
    await chunks.claim("silenced", LEASE_S)
    clock.shift(LEASE_S + 1)
    excused_until = clock.now() + timedelta(seconds=LEASE_S)
    assert await chunks.expire(excused_until=excused_until) == 1
    chunk = await chunks.claim("dies", LEASE_S)
    assert chunk.worker_crashes == 0
    clock.shift(3 * LEASE_S)
    assert await chunks.expire(excused_until=excused_until) == 1
    assert (await chunks.claim("heir", LEASE_S)).worker_crashes == 1
    clock.shift(5 * LEASE_S)
    await chunks.expire()
    await do_all()
    await faultless()


async def test_how_often_the_server_crashed_over_an_item_stays_with_its_chunk(batches, faultless):
    await make_batch(batches, 4)
    chunk = await chunks.claim("w", LEASE_S)
    assert await chunks.count_server_crashes(chunk, [0, 2]) == {0: 1, 2: 1}
    assert await chunks.count_server_crashes(chunk, [2]) == {0: 1, 2: 2}
    await chunks.give_back(chunk)
    assert await chunks.count_server_crashes(chunk, [2]) is None
    assert (await chunks.claim("w", LEASE_S)).server_crashes == {0: 1, 2: 2}
    clock.shift(LEASE_S + 1)
    await chunks.expire()
    assert (await chunks.claim("w", LEASE_S)).worker_crashes == 1
    clock.shift(3 * LEASE_S)
    await chunks.expire()
    isolated = await chunks.claim("w", LEASE_S)
    assert (isolated.is_isolated, isolated.server_crashes) == (True, {0: 1, 2: 2})
    await chunks.give_back(isolated)
    await do_all()
    await faultless()
