"""Workers, users and sweepers at once; and the ledger that judges them."""

import asyncio
import random

import pytest
from image_categorizer_server.db import chunk as chunks
from image_categorizer_server.db import result as results
from image_categorizer_server.errors import BatchNotFound, BatchRunning

from tests.support import invariants as ledger
from tests.support.batch_tools import (
    LEASE_S,
    advance_clock,
    category_of,
    do_all,
    failed_outcome,
    make_batch,
    right_outcome,
    sweep,
)
from tests.support.database import connect_as_owner
from tests.support.polling import elapsed


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
                await elapsed(0.01)
                continue
            outcomes = [right_outcome(item) for item in chunk.items]
            await elapsed(self.random.random() * 0.01)
            match self.random.randrange(8):
                case 0:
                    await results.record(chunk, outcomes[:2])  # and dies
                case 1:
                    await chunks.give_back(chunk)
                case 2:
                    await asyncio.gather(*(results.record(chunk, outcomes) for _ in range(3)))
                case 3:
                    await elapsed(0.3)  # longer than the lease
                    await results.record(chunk, outcomes)
                case 4:
                    await chunks.extend(chunk, 0.2)
                    await results.record(chunk, [failed_outcome(chunk.items[0]), *outcomes])
                case _:
                    await results.record(chunk, outcomes)

    async def user(self, name):
        for number in range(6):
            batch_id = await make_batch(self.batches, self.random.randrange(1, 30), tenant=name)
            self.alive.add((name, batch_id))
            for _ in range(3):
                await elapsed(self.random.random() * 0.1)
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
            await elapsed(0.05)
            await chunks.expire()
            await sweep(self.batches)

    async def run(self):
        others = [asyncio.create_task(self.worker(f"w{n}")) for n in range(6)]
        others += [asyncio.create_task(self.sweeper()) for _ in range(2)]
        await asyncio.gather(*(self.user(f"t{n}") for n in range(3)))
        self.is_over = True
        await asyncio.gather(*others)


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 20))]
)
async def test_whatever_happens_at_once_the_ledger_is_right(batches, faultless, seed):
    chaos = Chaos(batches, seed)
    await chaos.run()
    await sweep(batches)
    await faultless(acknowledged=[batch_id for _, batch_id in chaos.alive], must_have_ended=False)
    for _ in range(6):
        advance_clock(LEASE_S + 1)
        await chunks.expire()
        await do_all()
    await sweep(batches)
    await faultless(acknowledged=[batch_id for _, batch_id in chaos.alive])


async def test_the_ledger_finds_faults(batches, empty_database, storage):
    batch_id = await make_batch(batches, 8)
    await do_all()
    connection = await connect_as_owner(empty_database)
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
