"""What broken uploads and removed batches leave behind: nothing that is not needed."""

import asyncio

import pytest
from image_categorizer_server import clock
from image_categorizer_server.db import upload as uploads
from image_categorizer_server.db.database import transaction
from image_categorizer_server.db.locks import lock_tenant_images
from image_categorizer_server.domain.batch import BatchConfig, BatchItem
from image_categorizer_server.errors import (
    BatchNotFound,
    BatchRunning,
    BatchTooLarge,
    DependencyDown,
    InvalidRequest,
)
from image_categorizer_server.services.batch import Batches
from image_categorizer_server.services.upload import NewItem
from image_categorizer_server.settings.batch import BatchSettings

from tests.support.batch_tools import do_all, files, keys_of, links, numbered, pieces, sweep
from tests.support.database import connect_as_owner
from tests.support.polling import eventually
from tests.support.storage_contract import store_image


async def remains(url):
    connection = await connect_as_owner(url)
    tables = ("batches", "batch_items", "batch_chunks", "batch_results", "batch_uploads", "outbox")
    counts = {t: await connection.fetchval(f"SELECT count(*) FROM {t}") for t in tables}
    await connection.close()
    return {table: count for table, count in counts.items() if count}


async def test_a_batch_has_limits(database, storage, empty_database):
    batches = Batches(storage, BatchSettings(max_items=3, max_bytes=10), 1000)
    for wrong in (links(4), files([b"123456", b"123457"])):
        with pytest.raises(BatchTooLarge):
            await batches.create("t1", "key", BatchConfig(), wrong)
    with pytest.raises(InvalidRequest, match="at least one"):
        await batches.create("t1", "key", BatchConfig(), links(0))
    await sweep(batches)
    assert await remains(empty_database) == {}
    assert await keys_of(storage) == []


async def test_a_call_that_fails_leaves_nothing(batches, storage, empty_database):
    async def breaking():
        async for item in numbered(5):
            yield item
        yield NewItem("half.jpg", halves(), None)

    async def halves():
        yield b"half"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await batches.create("t1", "key", BatchConfig(), breaking())
    assert len(await keys_of(storage)) == 5
    assert await sweep(batches) == 5
    assert await remains(empty_database) == {}
    assert await keys_of(storage) == []


async def test_a_cancelled_call_leaves_nothing(batches, storage, empty_database):
    begun = asyncio.Event()

    async def endless():
        async for item in numbered(3):
            yield item
        begun.set()
        await asyncio.Event().wait()

    call = asyncio.create_task(batches.create("t1", "key", BatchConfig(), endless()))
    await begun.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await sweep(batches)
    assert await remains(empty_database) == {}
    assert await keys_of(storage) == []


async def test_a_call_that_is_cancelled_as_its_upload_begins_leaves_nothing(
    batches, empty_database
):
    async with transaction() as connection:
        await lock_tenant_images(connection, "t1")  # the upload waits for it
        call = asyncio.create_task(batches.create("t1", "key", BatchConfig(), numbered(3)))
        await eventually(lambda: count_waiting_locks(empty_database))
        call.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await call
    await sweep(batches)
    assert await remains(empty_database) == {}


async def count_waiting_locks(url):
    connection = await connect_as_owner(url)
    count = await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")
    await connection.close()
    return count


async def test_what_a_dead_server_left_is_swept(batches, storage, faultless):
    stored = await store_image(storage, "t1", b"left")
    await store_image(storage, "t1", b"stored, and its item not written")
    await batches.create("t2", "key", BatchConfig(), files([b"of another tenant"]))
    await uploads.begin_upload("t1", "b-dead", 60)
    item = BatchItem(0, "a.jpg", stored.key, None, 4)
    await uploads.write_items("t1", "b-dead", [(item, None)])
    assert await batches.give_up_silent_uploads() == 0
    clock.shift(61)
    assert await uploads.extend_upload("b-dead", 60)
    clock.shift(122)
    assert await batches.give_up_silent_uploads() == 1
    assert not await uploads.extend_upload("b-dead", 60)
    assert await sweep(batches) == 2
    assert len(await keys_of(storage)) == 1
    await do_all()
    await faultless()


async def test_an_upload_that_was_given_up_becomes_no_batch(batches, empty_database):
    async def slow():
        async for item in links(3):
            yield item
        clock.shift(500)
        assert await batches.give_up_silent_uploads() == 1

    with pytest.raises(DependencyDown):
        await batches.create("t1", "key", BatchConfig(), slow())
    assert "batches" not in await remains(empty_database)


async def test_what_comes_after_an_upload_was_given_up_leaves_nothing(
    database, storage, empty_database
):
    batches = Batches(storage, BatchSettings(), 1000, page_items=2)

    async def goes_on():
        async for item in numbered(3):
            yield item
        clock.shift(500)
        assert await batches.give_up_silent_uploads() == 1
        async for item in numbered(9):
            yield item

    with pytest.raises(DependencyDown, match="silent"):
        await batches.create("t1", "key", BatchConfig(), goes_on())
    await sweep(batches)
    assert await remains(empty_database) == {}
    assert await keys_of(storage) == []


async def test_of_those_who_sweep_one_gives_an_upload_up(batches, storage):
    await uploads.begin_upload("t1", "b-dead", 60)
    clock.shift(61)
    both = await asyncio.gather(*(uploads.take_silent_uploads(60) for _ in range(2)))
    assert sorted(both) == [[], [("t1", "b-dead", "")]]
    clock.shift(122)  # that one died, too
    assert await batches.give_up_silent_uploads() == 1


async def test_a_removed_batch_takes_its_images_with_it(
    batches, storage, empty_database, faultless
):
    first = await batches.create("t1", "key", BatchConfig(), files([b"shared", b"own"]))
    with pytest.raises(BatchRunning):
        await batches.delete("t1", first.batch_id)
    second = await batches.create("t1", "key", BatchConfig(), files([b"shared", b"other"]))
    await do_all()
    assert len(await keys_of(storage)) == 3
    await batches.delete("t1", first.batch_id)
    with pytest.raises(BatchNotFound):
        await batches.get("t1", first.batch_id)
    assert await sweep(batches) == 1
    assert len(await keys_of(storage)) == 2
    await faultless(acknowledged=[second.batch_id])
    await batches.delete("t1", second.batch_id)
    await sweep(batches)
    assert await keys_of(storage) == []
    assert set(await remains(empty_database)) == {"outbox"}  # two messages that they completed


async def test_no_image_goes_while_an_upload_may_rely_on_it(batches, storage, faultless):
    first = await batches.create("t1", "key", BatchConfig(), files([b"shared"]))
    await do_all()

    async def meanwhile():
        yield NewItem("a.jpg", pieces(b"shared"), None)
        await batches.delete("t1", first.batch_id)
        assert await sweep(batches) == 0
        assert len(await keys_of(storage)) == 1

    second = await batches.create("t1", "key", BatchConfig(), meanwhile())
    await do_all()
    assert await sweep(batches) == 0
    await faultless(acknowledged=[second.batch_id])


async def test_uploads_and_removals_at_once_lose_no_image(batches, storage, faultless):
    alive = []

    async def user(number):
        for _ in range(10):
            made = await batches.create(
                "t1", "key", BatchConfig(), files([b"same", b"%d" % (number % 2)])
            )
            await batches.cancel("t1", made.batch_id)
            if number < 3:
                await batches.delete("t1", made.batch_id)
                await sweep(batches)
            else:
                alive.append(made.batch_id)

    await asyncio.gather(*(user(n) for n in range(5)))
    await sweep(batches)
    await faultless(acknowledged=alive)
