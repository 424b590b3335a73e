"""Any order of claims, outcomes, crashes, cancellations and removals keeps the ledger right."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)
from image_categorizer_server import clock
from image_categorizer_server.db import chunk as chunks
from image_categorizer_server.db import result as results
from image_categorizer_server.domain.batch import BatchConfig
from image_categorizer_server.errors import BatchNotFound, BatchRunning
from image_categorizer_server.services.batch import Batches
from image_categorizer_server.settings.batch import BatchSettings
from image_categorizer_server.stores.object_store import MemoryStorage

from tests.support import invariants as ledger
from tests.support.batch_tools import (
    LEASE_S,
    advance_clock,
    category_of,
    do_all,
    failed_outcome,
    numbered,
    right_outcome,
    sweep,
)
from tests.support.database import connect_as_owner, open_for_all_tenants

TABLES = "batches, batch_items, batch_chunks, batch_results, batch_uploads, outbox"


class Machine(RuleBasedStateMachine):
    url = ""
    batches = Bundle("batches")
    leases = Bundle("leases")

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.storage = MemoryStorage()
        self.use = Batches(self.storage, BatchSettings(chunk_items=3), 1000)
        self.alive = {}
        self.held = {}  # by lease token: the batch, and the items that have no outcome
        self.run(self._open())

    def run(self, work):
        return self.runner.run(work)

    async def _open(self):
        connection = await connect_as_owner(self.url)
        await connection.execute(f"TRUNCATE {TABLES}")
        await connection.close()
        await self.stack.enter_async_context(open_for_all_tenants(self.url))

    @rule(target=batches, tenant=st.sampled_from("ab"), count=st.integers(1, 8))
    def create(self, tenant, count):
        made = self.run(self.use.create(tenant, "key", BatchConfig(), numbered(count)))
        self.alive[made.batch_id] = tenant
        return made.batch_id

    @rule(target=leases)
    def claim(self):
        chunk = self.run(chunks.claim("w", LEASE_S))
        if chunk is not None:
            assert chunk.items
            wanted = {item.number for item in chunk.items}
            for batch_id, numbers in self.held.values():
                assert batch_id != chunk.batch_id or not (numbers & wanted)
            self.held[chunk.lease_token] = (chunk.batch_id, wanted)
        return chunk

    @rule(chunk=leases, good=st.sets(st.integers(0, 8)), bad=st.sets(st.integers(0, 8)))
    def record(self, chunk, good, bad):
        if chunk is None:
            return
        outcomes = [right_outcome(item) for item in chunk.items if item.number in good]
        outcomes += [failed_outcome(item) for item in chunk.items if item.number in bad]
        is_held = chunk.lease_token in self.held
        assert self.run(results.record(chunk, outcomes)) == is_held
        if is_held:
            rest = self.held[chunk.lease_token][1]
            rest -= good | bad
            if not rest:
                del self.held[chunk.lease_token]

    @rule(chunk=consumes(leases), delay_s=st.sampled_from([0.0, 20.0]))
    def give_back(self, chunk, delay_s):
        if chunk is not None:
            is_held = self.held.pop(chunk.lease_token, None) is not None
            assert self.run(chunks.give_back(chunk, delay_s)) == is_held

    @rule(chunk=consumes(leases))
    def die(self, chunk):
        if chunk is not None:
            is_held = self.held.pop(chunk.lease_token, None) is not None
            assert self.run(chunks.record_crash(chunk)) == is_held

    @rule(chunk=leases)
    def fail(self, chunk):
        if chunk is not None:
            is_held = chunk.lease_token in self.held
            assert self.run(chunks.fail_batch(chunk, "no")) == is_held
            if is_held:
                self._lose(lambda batch_id: batch_id == chunk.batch_id)

    @rule()
    def all_leases_end(self):
        advance_clock(LEASE_S + 1)
        assert self.run(chunks.expire()) == len(self.held)
        self._lose(lambda _: True)

    @rule(batch_id=batches)
    def cancel(self, batch_id):
        self._on(batch_id, self.use.cancel)

    @rule(batch_id=batches)
    def retry(self, batch_id):
        self._on(batch_id, self.use.retry)

    @rule(batch_id=batches)
    def delete(self, batch_id):
        if self._on(batch_id, self.use.delete):
            del self.alive[batch_id]
            self.run(sweep(self.use))

    def _on(self, batch_id, do):
        try:
            self.run(do(self.alive.get(batch_id, "a"), batch_id))
            return True
        except BatchRunning:
            return False
        except BatchNotFound:
            assert batch_id not in self.alive
            return False

    def _lose(self, which):
        self.held = {t: held for t, held in self.held.items() if not which(held[0])}

    @invariant()
    def ledger_is_right(self):
        self._check(must_have_ended=False)

    def _check(self, must_have_ended):
        faults = ledger.find_faults(
            self.url, self.alive, self.storage, category_of, must_have_ended=must_have_ended
        )
        assert self.run(faults) == []

    async def _end_all(self):
        for _ in range(4):
            advance_clock(LEASE_S + 1)
            await chunks.expire()
            await do_all()

    def teardown(self):
        try:
            self.run(self._end_all())
            self._check(must_have_ended=True)
        finally:
            clock.shift(0)
            self.run(self.stack.aclose())
            self.runner.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("examples", [8, pytest.param(100, marks=pytest.mark.slow)])
def test_any_order_of_things_keeps_the_ledger(stores, examples):
    run_state_machine_as_test(
        type("OnStores", (Machine,), {"url": stores.postgres.url}),
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        ),
    )
