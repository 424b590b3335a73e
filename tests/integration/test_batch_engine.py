"""Chunks, leases, outcomes, deaths: the engine of batches on a real PostgreSQL."""

import asyncio
import random
from collections import Counter

import asyncpg
import pytest
from image_categorizer_server import clock
from image_categorizer_server.batch_groups import BatchSettings
from image_categorizer_server.batches import Batches
from image_categorizer_server.db import batches as rows
from image_categorizer_server.db import chunks, outbox, results
from image_categorizer_server.domain import BatchConfig, BatchState, OutboxKind
from image_categorizer_server.errors import BatchNotFound, BatchRunning
from image_categorizer_server.storage import MemoryStorage

from tests import ledger
from tests.batch_tools import (
    category_of,
    do_all,
    do_chunk,
    failed_outcome,
    files,
    links,
    numbered,
    right_outcome,
)

LEASE_S = 30.0


@pytest.fixture(autouse=True)
def restored_clock():
    yield
    clock.shift(0)


@pytest.fixture
def storage():
    return MemoryStorage()


@pytest.fixture
def batches(database, storage):
    return Batches(storage, BatchSettings(chunk_items=4, watch_interval_s=0.01), 1000)


@pytest.fixture
def faultless(empty_database, storage):
    """Asserts that the ledger is right."""

    async def check(**options):
        found = await ledger.find_faults(
            empty_database, storage=storage, category_of=category_of, **options
        )
        assert found == []

    return check


async def make(batches, count, tenant="t1", **config):
    batch = await batches.create(tenant, "key", BatchConfig(**config), numbered(count, "f"))
    return batch.batch_id


async def test_a_batch_goes_from_queued_to_completed(batches, faultless):
    batch_id = await make(batches, 10)
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
    batch_id = await make(batches, 1)
    chunk = await chunks.claim("w", LEASE_S)
    outcome = right_outcome(chunk.items[0])
    await results.record(chunk, [outcome])
    (result,) = (await batches.results("t1", batch_id)).items
    assert list(result.predictions) == outcome.classification.predictions
    assert result.model == outcome.classification.model
    assert (result.number, result.filename, result.error) == (0, "f0.jpg", None)


async def test_chunks_are_claimed_once_each_by_many_at_once(batches, faultless):
    batch_id = await make(batches, 200)
    claimed = []

    async def worker(name):
        while chunk := await chunks.claim(name, LEASE_S):
            claimed.append((chunk.number, chunk.lease_token))
            await do_chunk(chunk)

    await asyncio.gather(*(worker(f"w{n}") for n in range(12)))
    assert Counter(number for number, _ in claimed) == Counter(range(50))
    assert len({token for _, token in claimed}) == 50
    await faultless(acknowledged=[batch_id])


async def test_a_worker_that_was_thought_dead_can_write_nothing(batches, faultless):
    await make(batches, 4)
    late = await chunks.claim("late", LEASE_S)
    assert await chunks.claim("other", LEASE_S) is None
    assert await chunks.expire() == 0
    clock.shift(LEASE_S + 1)
    assert await chunks.expire() == 1
    assert not await do_chunk(late)
    assert not await chunks.extend(late, LEASE_S)
    assert not await chunks.give_back(late)
    assert not await chunks.bury(late)
    assert not await chunks.fail_batch(late, "no")
    heir = await chunks.claim("heir", LEASE_S)
    assert (heir.number, heir.deaths) == (late.number, 1)
    assert heir.lease_token > late.lease_token
    assert not await do_chunk(late)
    assert await do_chunk(heir)
    await faultless()


async def test_an_expired_lease_that_nobody_took_is_still_good(batches, faultless):
    await make(batches, 4)
    chunk = await chunks.claim("slow", LEASE_S)
    clock.shift(LEASE_S + 1)
    assert await do_chunk(chunk)
    assert await chunks.expire() == 0
    await faultless()


async def test_a_heartbeat_keeps_the_lease(batches):
    await make(batches, 4)
    chunk = await chunks.claim("w", LEASE_S)
    for elapsed_s in (20, 40, 60):
        clock.shift(elapsed_s)
        assert await chunks.extend(chunk, LEASE_S)
        assert await chunks.expire() == 0
    clock.shift(91)
    assert await chunks.expire() == 1


async def test_an_heir_gets_only_what_has_no_outcome(batches, faultless):
    batch_id = await make(batches, 4)
    chunk = await chunks.claim("w", LEASE_S)
    done = [right_outcome(chunk.items[0]), failed_outcome(chunk.items[2])]
    assert await results.record(chunk, done)
    assert await results.record(chunk, done)  # not sure whether the first one got through
    batch = await batches.get("t1", batch_id)
    assert (batch.succeeded_count, batch.failed_count, batch.pending_count) == (1, 1, 2)
    await chunks.give_back(chunk)
    heir = await chunks.claim("heir", LEASE_S)
    assert [item.number for item in heir.items] == [1, 3]
    assert heir.deaths == 0
    rest = [failed_outcome(heir.items[0]), *done, *map(right_outcome, heir.items)]
    assert await results.record(heir, rest)
    batch = await batches.get("t1", batch_id)
    assert (batch.state, batch.succeeded_count, batch.failed_count) == (BatchState.COMPLETED, 2, 2)
    await faultless()


async def test_outcomes_of_other_chunks_are_ignored(batches, faultless):
    await make(batches, 8)
    first, second = await chunks.claim("a", LEASE_S), await chunks.claim("b", LEASE_S)
    assert await results.record(first, [right_outcome(item) for item in second.items])
    assert await do_chunk(first)
    assert await do_chunk(second)
    await faultless()


async def test_what_is_given_back_with_a_delay_waits(batches):
    await make(batches, 8)
    chunk = await chunks.claim("w", LEASE_S)
    await chunks.give_back(chunk, delay_s=10)
    assert (await chunks.claim("w", LEASE_S)).number == 1
    assert await chunks.claim("w", LEASE_S) is None
    clock.shift(11)
    assert (await chunks.claim("w", LEASE_S)).number == chunk.number


async def test_what_is_given_back_goes_first(batches):
    await make(batches, 8)
    chunk = await chunks.claim("w", LEASE_S)
    await chunks.give_back(chunk)
    assert (await chunks.claim("w", LEASE_S)).number == chunk.number


async def test_an_item_that_kills_is_found_and_its_neighbours_live(batches, faultless):
    """R5: two deaths of all together, a third one of the guilty alone."""
    batch_id = await make(batches, 10)
    guilty, deaths, shift_s = 5, 0, 0.0
    while True:
        while chunk := await chunks.claim("w", LEASE_S):
            if guilty in [item.number for item in chunk.items]:
                deaths += 1
                if chunk.is_alone:  # who runs the child sees it die
                    assert await chunks.bury(chunk)
            else:
                assert await do_chunk(chunk)
        shift_s += LEASE_S + 1
        clock.shift(shift_s)
        if not await chunks.expire():
            break
    assert deaths == 3
    batch = await batches.get("t1", batch_id)
    assert (batch.state, batch.succeeded_count, batch.failed_count) == (BatchState.COMPLETED, 9, 1)
    (failure,) = batch.failures
    assert (failure.number, failure.error.reason) == (guilty, "ITEM_KILLED_WORKERS")
    await faultless()


async def test_whoever_dies_with_a_suspects_parent_does_not_make_it_guilty(batches, faultless):
    batch_id = await make(batches, 1)
    for number in range(5):
        chunk = await chunks.claim("w", LEASE_S)
        assert (chunk.deaths, chunk.is_alone) == (number, number >= 2)
        clock.shift((number + 1) * (LEASE_S + 1))
        assert await chunks.expire() == 1
    assert await do_all() == 1
    assert (await batches.get("t1", batch_id)).succeeded_count == 1
    await faultless()


async def test_the_death_of_a_child_counts_at_once(batches, faultless):
    await make(batches, 1)
    for deaths in range(3):
        chunk = await chunks.claim("w", LEASE_S)
        assert (chunk.deaths, chunk.is_alone) == (deaths, deaths == 2)
        assert await chunks.bury(chunk)
    assert await chunks.claim("w", LEASE_S) is None
    await faultless()


async def test_a_split_chunk_keeps_what_was_done(batches, faultless):
    await make(batches, 4)
    chunk = await chunks.claim("w", LEASE_S)
    await results.record(chunk, [right_outcome(chunk.items[1])])
    await chunks.bury(chunk)
    await chunks.bury(await chunks.claim("w", LEASE_S))
    alone = [await chunks.claim("w", LEASE_S) for _ in range(3)]
    assert [[item.number for item in chunk.items] for chunk in alone] == [[0], [2], [3]]
    assert all(chunk.is_alone for chunk in alone)
    for chunk in alone:
        assert await do_chunk(chunk)
    await faultless()


async def test_sweepers_take_turns(batches):
    for _ in range(5):
        await make(batches, 8)
    while await chunks.claim("dead", LEASE_S):
        pass
    clock.shift(LEASE_S + 1)
    found = await asyncio.gather(*(chunks.expire() for _ in range(6)))
    assert sum(found) == 10
    assert await chunks.count_waiting() == 40


async def test_a_cancelled_batch_finishes_what_is_under_way(batches, faultless):
    batch_id = await make(batches, 12)
    chunk = await chunks.claim("w", LEASE_S)
    assert (await batches.cancel("t1", batch_id)).state is BatchState.CANCELLING
    assert await chunks.claim("w", LEASE_S) is None
    assert (await batches.cancel("t1", batch_id)).state is BatchState.CANCELLING
    assert await do_chunk(chunk)
    batch = await batches.cancel("t1", batch_id)
    assert (batch.state, batch.succeeded_count, batch.pending_count) == (BatchState.CANCELLED, 4, 8)
    await faultless()


@pytest.mark.parametrize("ending", ["given back", "expired", "buried"])
async def test_a_cancelled_batch_ends_however_its_last_lease_does(batches, ending, faultless):
    batch_id = await make(batches, 4)
    chunk = await chunks.claim("w", LEASE_S)
    await batches.cancel("t1", batch_id)
    if ending == "given back":
        assert await chunks.give_back(chunk)
    elif ending == "buried":
        assert await chunks.bury(chunk)
    else:
        clock.shift(LEASE_S + 1)
        assert await chunks.expire() == 1
    assert (await batches.get("t1", batch_id)).state is BatchState.CANCELLED
    assert await chunks.claim("w", LEASE_S) is None
    await faultless()


async def test_a_batch_cancelled_before_it_began_is_over_at_once(batches, faultless):
    batch_id = await make(batches, 4)
    batch = await batches.cancel("t1", batch_id)
    assert (batch.state, batch.pending_count, batch.start_time) == (BatchState.CANCELLED, 4, None)
    await faultless()


async def test_cancelling_what_has_all_outcomes_leaves_it_completed(batches):
    batch_id = await make(batches, 4)
    chunk = await chunks.claim("w", LEASE_S)
    await batches.cancel("t1", batch_id)
    await do_chunk(chunk)
    assert (await batches.cancel("t1", batch_id)).state is BatchState.COMPLETED


async def test_retrying_does_failed_and_pending_items_again(batches, faultless):
    batch_id = await make(batches, 12)
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
    batch_id = await make(batches, 4)
    old = await chunks.claim("w", LEASE_S)
    await chunks.give_back(old)
    await batches.cancel("t1", batch_id)
    await batches.retry("t1", batch_id)
    assert not await do_chunk(old)
    assert await do_all() == 4
    await faultless()


async def test_a_batch_that_cannot_run_fails_and_takes_its_leases_with_it(batches, faultless):
    batch_id = await make(batches, 12)
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


async def test_tenants_take_turns_however_much_one_has(batches):
    """R9: who has the fewest leased chunks goes first."""
    for _ in range(5):
        await make(batches, 40, tenant="a")
    await make(batches, 8, tenant="b")
    await make(batches, 8, tenant="c")
    order = [(await chunks.claim("w", LEASE_S)).tenant_id for _ in range(9)]
    assert Counter(order[:3]) == Counter("abc")
    assert Counter(order[3:6]) == Counter("abc")
    assert order[6:] == ["a", "a", "a"]


async def test_of_equals_no_tenant_waits_for_ever(batches):
    for tenant in "ab":
        await make(batches, 200, tenant=tenant)
    served = Counter()
    for _ in range(60):  # one worker: nobody has anything leased when it claims
        chunk = await chunks.claim("w", LEASE_S)
        served[chunk.tenant_id] += 1
        await do_chunk(chunk)
    assert min(served.values()) > 60 / 2 / 2


async def test_priority_goes_first_and_then_age(batches):
    ids = [await make(batches, 4, priority=p) for p in (0, 0, 10, -10)]
    order = [(await chunks.claim("w", LEASE_S)).batch_id for _ in range(4)]
    assert order == [ids[2], ids[0], ids[1], ids[3]]


async def test_the_outbox_offers_again_what_is_not_reported_done(batches):
    batch_id = await make(batches, 4)
    (ring,) = await outbox.take([OutboxKind.RING], 10, lease_s=5)
    assert (ring.batch_id, ring.tenant_id) == (batch_id, "t1")
    assert await outbox.take([OutboxKind.RING], 10) == []
    clock.shift(6)
    (again,) = await outbox.take([OutboxKind.RING], 10)
    assert again.outbox_id == ring.outbox_id
    await outbox.done([ring.outbox_id])
    clock.shift(100)
    assert await outbox.take([OutboxKind.RING], 10) == []
    await do_all()
    assert (await outbox.count_undone())[OutboxKind.WEBHOOK] == 1
    (told,) = await outbox.take([OutboxKind.WEBHOOK], 10)
    await outbox.done([told.outbox_id])
    assert sum((await outbox.count_undone()).values()) == 0


async def test_an_expired_lease_rings(batches):
    await make(batches, 4)
    await outbox.done([row.outbox_id for row in await outbox.take([OutboxKind.RING], 10)])
    await chunks.claim("w", LEASE_S)
    clock.shift(LEASE_S + 1)
    await chunks.expire()
    assert len(await outbox.take([OutboxKind.RING], 10)) == 1


async def test_a_batch_that_was_failed_and_deleted_is_no_trouble(batches, faultless):
    batch_id = await make(batches, 8)
    first, second = await chunks.claim("a", LEASE_S), await chunks.claim("b", LEASE_S)
    await chunks.fail_batch(first, "no")
    await batches.delete("t1", batch_id)
    assert not await do_chunk(second)
    assert not await chunks.extend(second, LEASE_S)
    assert not await chunks.give_back(second)
    await faultless()


class Chaos:
    """Workers, users and sweepers that do anything at any time."""

    def __init__(self, batches, seed):
        self.batches = batches
        self.random = random.Random(seed)
        self.alive = set()
        self.is_over = False

    async def worker(self, name):
        while not self.is_over:
            chunk = await chunks.claim(name, 0.2)
            if chunk is None:
                await asyncio.sleep(0.01)
                continue
            outcomes = [right_outcome(item) for item in chunk.items]
            await asyncio.sleep(self.random.random() * 0.01)
            match self.random.randrange(8):
                case 0:
                    await results.record(chunk, outcomes[:2])  # and dies
                case 1:
                    await chunks.give_back(chunk)
                case 2:
                    await asyncio.gather(*(results.record(chunk, outcomes) for _ in range(3)))
                case 3:
                    await asyncio.sleep(0.3)  # longer than the lease
                    await results.record(chunk, outcomes)
                case 4:
                    await chunks.extend(chunk, 0.2)
                    await results.record(chunk, [failed_outcome(chunk.items[0]), *outcomes])
                case _:
                    await results.record(chunk, outcomes)

    async def user(self, name):
        for number in range(6):
            batch_id = await make(self.batches, self.random.randrange(1, 30), tenant=name)
            self.alive.add((name, batch_id))
            for _ in range(3):
                await asyncio.sleep(self.random.random() * 0.1)
                try:
                    match self.random.randrange(4):
                        case 0:
                            await self.batches.cancel(name, batch_id)
                        case 1:
                            await self.batches.retry(name, batch_id)
                        case 2 if number % 3 == 0:
                            await self.batches.delete(name, batch_id)
                            self.alive.discard((name, batch_id))
                except BatchRunning:
                    pass
                except BatchNotFound:
                    assert (name, batch_id) not in self.alive

    async def sweeper(self):
        while not self.is_over:
            await asyncio.sleep(0.05)
            await chunks.expire()

    async def run(self):
        others = [asyncio.create_task(self.worker(f"w{n}")) for n in range(6)]
        others += [asyncio.create_task(self.sweeper()) for _ in range(2)]
        await asyncio.gather(*(self.user(f"t{n}") for n in range(3)))
        self.is_over = True
        await asyncio.gather(*others)


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_at_once_the_ledger_is_right(batches, faultless, seed):
    chaos = Chaos(batches, seed)
    await chaos.run()
    await batches.remove_images(100)
    await faultless(acknowledged=[batch_id for _, batch_id in chaos.alive], must_have_ended=False)
    for _ in range(6):
        clock.shift(clock.offset().total_seconds() + LEASE_S + 1)
        await chunks.expire()
        await do_all()
    await batches.remove_images(100)
    await faultless(acknowledged=[batch_id for _, batch_id in chaos.alive])


async def test_the_ledger_finds_faults(batches, empty_database, storage):
    batch_id = await make(batches, 8)
    await do_all()
    connection = await asyncpg.connect(empty_database)
    await connection.execute("DELETE FROM batch_results WHERE number = 3")
    await connection.execute("DELETE FROM outbox WHERE kind = 'webhook'")
    await connection.execute("UPDATE batch_results SET predictions = '[]' WHERE number = 4")
    await connection.close()
    (some,) = [found.key async for found in storage.list()][:1]
    await storage.delete([some])
    faults = await ledger.find_faults(
        empty_database, [batch_id, "b-lost"], storage=storage, category_of=category_of
    )
    assert {fault[:2] for fault in faults} == {"I1", "I2", "I3", "I4", "I5", "I6"}


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
