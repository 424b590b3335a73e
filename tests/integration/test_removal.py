"""How deleted batches disappear, and images with them, on a real PostgreSQL."""

import asyncio
import time

import asyncpg
import pytest
from image_categorizer_server import clock
from image_categorizer_server.db import removal
from image_categorizer_server.db import upload as uploads
from image_categorizer_server.db.database import connected
from image_categorizer_server.domain.batch import BatchConfig
from image_categorizer_server.errors import BatchNotFound, DependencyDown
from image_categorizer_server.services.batch import EXPORT_ROWS, REMOVAL_LEASE_S, Batches
from image_categorizer_server.settings.batch import BatchSettings
from image_categorizer_server.stores.object_store import MemoryStorage

from tests.support.batch_tools import all_of, do_all, files, keys_of, make_batch, sweep
from tests.support.database import run_as_owner
from tests.support.polling import elapsed, eventually
from tests.support.storage_contract import store_image

TABLES = ("batches", "batch_items", "batch_results", "batch_chunks")
MILLION = 1_000_000
COLUMNS = """
SELECT c.table_name, c.column_name FROM information_schema.columns c
WHERE c.table_schema = 'public' AND c.column_name LIKE '%object_key%'
    AND NOT starts_with(c.table_name, 'audit_')
"""
INDEXED = """
SELECT c.relname, a.attname FROM pg_index i
JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
"""


class HeldStorage(MemoryStorage):
    """A storage that removes nothing before it is told to."""

    def __init__(self):
        super().__init__()
        self.is_removing = asyncio.Event()
        self.may_remove = asyncio.Event()

    async def delete(self, keys):
        self.is_removing.set()
        await self.may_remove.wait()
        await super().delete(keys)


@pytest.fixture
def storage():
    held = HeldStorage()
    held.may_remove.set()
    return held


async def counts():
    async with connected() as connection:
        return [await connection.fetchval(f"SELECT count(*) FROM {table}") for table in TABLES]


async def deleted_batch(batches, count):
    batch_id = await make_batch(batches, count)
    await do_all()
    await batches.delete("t1", batch_id)
    return batch_id


async def test_a_deleted_batch_is_gone_at_once_for_every_reader(batches, storage):
    config = BatchConfig(request_id="r1")
    made = await batches.create("t1", "key", config, files([b"a", b"b"]))
    await do_all()
    await batches.delete("t1", made.batch_id)
    assert await counts() == [0, 2, 2, 1]  # nothing but the batch itself is removed yet
    for call in (
        batches.get("t1", made.batch_id),
        batches.results("t1", made.batch_id),
        anext(batches.export("t1", made.batch_id)),
        anext(batches.watch("t1", made.batch_id)),
        batches.cancel("t1", made.batch_id),
        batches.retry("t1", made.batch_id),
        batches.delete("t1", made.batch_id),
    ):
        with pytest.raises(BatchNotFound):
            await call
    assert (await batches.list("t1")).items == []
    again = await batches.create("t1", "key", config, files([b"a", b"c"]))
    assert again.batch_id != made.batch_id
    await do_all()
    assert await sweep(batches) == 1  # the new batch has the other one
    assert await counts() == [1, 2, 2, 1]


@pytest.mark.parametrize("is_swept", [True, False])
async def test_an_export_of_a_batch_that_is_deleted_meanwhile_does_not_seem_whole(
    batches, is_swept
):
    batch_id = await make_batch(batches, EXPORT_ROWS + 1)
    await do_all()
    export = batches.export("t1", batch_id)
    await anext(export)
    await batches.delete("t1", batch_id)
    if is_swept:
        await sweep(batches)
    with pytest.raises(BatchNotFound):
        await all_of(export)


async def test_rows_are_removed_page_by_page(batches):
    await deleted_batch(batches, 20)
    left = [await counts()]
    while await removal.remove_rows(page_rows=8):
        left.append(await counts())
    assert left == [
        [0, 20, 20, 5],
        [0, 12, 12, 5],
        [0, 4, 4, 5],
        [0, 0, 0, 5],
        [0, 0, 0, 0],
        [0, 0, 0, 0],
    ]


async def test_sweepers_at_once_remove_everything(batches, storage, faultless):
    for _ in range(3):
        await deleted_batch(batches, 30)
    stays = await batches.create("t1", "key", BatchConfig(), files([b"f 1", b"f 2", b"new"]))
    await do_all()
    assert len(await keys_of(storage)) == 31

    async def sweeper():
        while await removal.remove_rows(page_rows=8):
            await batches.remove_images(1)

    await asyncio.gather(*(sweeper() for _ in range(4)))
    await sweep(batches)
    assert await counts() == [1, 3, 3, 1]
    await faultless(acknowledged=[stays.batch_id])


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_million_items_are_deleted_in_one_call_and_swept_beside_others(batches, storage):
    batch_id = await make_batch(batches, 1)
    await do_all()
    async with connected() as connection:
        for table, change in (
            ("batch_items", "'number', n, 'object_key', 't1/' || n"),
            ("batch_results", "'number', n"),
        ):
            await connection.execute(
                f"INSERT INTO {table}"
                f" SELECT made.* FROM generate_series(1, {MILLION - 1}) n,"
                f" LATERAL (SELECT to_jsonb(t) AS row FROM {table} t WHERE number = 0) one,"
                f" jsonb_populate_record(NULL::{table}, row || jsonb_build_object({change})) made",
                timeout=600,
            )
    assert (await counts())[1:3] == [MILLION, MILLION]
    start_s = time.monotonic()
    await batches.delete("t1", batch_id)
    call_s = time.monotonic() - start_s
    sweeping = asyncio.create_task(sweep_all(batches))
    waits_s = []
    while not sweeping.done():
        start_s = time.monotonic()
        await make_batch(batches, 1, "t2")
        waits_s.append(time.monotonic() - start_s)
        await elapsed(0.05)
    print(
        f"\na million items: deleted in {call_s:.3f} s, swept in {sweeping.result():.0f} s;"
        f" {len(waits_s)} batches made meanwhile, the slowest in {max(waits_s):.2f} s"
    )
    assert call_s < 1
    assert max(waits_s) < 2
    assert (await counts())[1:3] == [len(waits_s), 0]


async def sweep_all(batches):
    """Sweeps until nothing is left; returns how many seconds that took."""
    start_s = time.monotonic()
    while await removal.remove_rows():
        pass
    while await batches.remove_images(100):
        pass
    return time.monotonic() - start_s


async def test_a_page_that_fails_half_way_is_removed_later(batches, storage, empty_database):
    await deleted_batch(batches, 5)
    refuse = "ALTER TABLE outbox ADD CONSTRAINT refused CHECK (kind <> 'blobs') NOT VALID"
    await run_as_owner(empty_database, refuse)
    try:
        with pytest.raises(asyncpg.CheckViolationError):
            await batches.remove_rows(1)
    finally:
        await run_as_owner(empty_database, "ALTER TABLE outbox DROP CONSTRAINT refused")
    assert await counts() == [0, 5, 5, 2]
    assert await sweep(batches) == 5
    assert await counts() == [0, 0, 0, 0]
    assert await keys_of(storage) == []


async def test_a_store_that_hangs_holds_up_no_upload_but_of_the_same_image(
    batches, storage, faultless
):
    await deleted_batch(batches, 2)  # of the images `f 0` and `f 1`
    storage.may_remove.clear()
    sweeping = asyncio.create_task(sweep(batches))
    await storage.is_removing.wait()
    other = await asyncio.wait_for(
        batches.create("t1", "key", BatchConfig(), files([b"another"])), 10
    )
    same = asyncio.create_task(
        batches.create("t1", "key", BatchConfig(), files([b"new", b"f 1", b"f 1"]))
    )
    await elapsed(0.3)
    assert not same.done()
    storage.may_remove.set()
    assert await sweeping == 2
    batch = await same
    await do_all()
    assert len(await keys_of(storage)) == 3
    await faultless(acknowledged=[other.batch_id, batch.batch_id])


async def test_what_a_dead_sweeper_was_removing_is_removed_though_an_upload_waits(
    batches, storage, faultless
):
    await deleted_batch(batches, 1)
    await batches.remove_rows(9)
    dead = await removal.claim_images(REMOVAL_LEASE_S)
    assert await removal.claim_images(REMOVAL_LEASE_S) is None
    upload = asyncio.create_task(batches.create("t1", "key", BatchConfig(), files([b"f 0"])))
    await eventually(is_uploading)
    clock.shift(REMOVAL_LEASE_S + 1)
    heir = await removal.claim_images(REMOVAL_LEASE_S)
    assert heir.keys == dead.keys
    await removal.end_removal(dead)  # it was only slow: the images are still the heir's
    assert await removal.is_removing("t1", heir.keys[0])
    assert not upload.done()
    await storage.delete(heir.keys)
    await removal.end_removal(heir)
    batch = await upload
    await do_all()
    await faultless(acknowledged=[batch.batch_id])


async def is_uploading():
    async with connected() as connection:
        return await connection.fetchval("SELECT EXISTS (SELECT FROM batch_uploads)")


async def test_images_that_a_broken_store_keeps_are_removed_later(database):
    class Broken(MemoryStorage):
        def __init__(self):
            super().__init__()
            self.failures = [DependencyDown("the image storage does not answer")]

        async def delete(self, keys):
            if self.failures:
                raise self.failures.pop()
            await super().delete(keys)

    storage = Broken()
    batches = Batches(storage, BatchSettings(), 1000)
    await deleted_batch(batches, 3)
    with pytest.raises(DependencyDown):
        await sweep(batches)
    assert len(await keys_of(storage)) == 3
    clock.shift(REMOVAL_LEASE_S + 1)
    assert await sweep(batches) == 3
    assert await keys_of(storage) == []


async def test_an_image_of_another_batch_stays_whoever_wants_to_remove_it(
    batches, storage, faultless
):
    stays = await batches.create("t1", "key", BatchConfig(), files([b"f 0", b"own"]))
    await deleted_batch(batches, 2)
    await store_image(storage, "t1", b"of no batch")
    await uploads.begin_upload("t1", "b-dead", 60)
    clock.shift(61)
    assert await batches.give_up_silent_uploads() == 1  # it looks at all images of the tenant
    assert await sweep(batches) == 2
    await do_all()
    await faultless(acknowledged=[stays.batch_id])


async def test_every_column_that_names_images_protects_them(database):
    """A table that is added without its references would lose its images."""
    async with connected() as connection:
        named = {tuple(row) for row in await connection.fetch(COLUMNS)}
        indexed = {tuple(row) for row in await connection.fetch(INDEXED)}
    assert named == set(removal.REFERENCES)
    assert named <= indexed
