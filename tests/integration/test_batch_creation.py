"""How batches come in, are listed, watched and removed."""

import asyncio
import tracemalloc

import asyncpg
import pytest
from image_categorizer_server import clock
from image_categorizer_server.batch_groups import BatchSettings
from image_categorizer_server.batches import Batches, NewItem
from image_categorizer_server.db import chunks, results, uploads
from image_categorizer_server.domain import (
    BatchConfig,
    BatchItem,
    BatchState,
    ClassifyOptions,
)
from image_categorizer_server.errors import (
    BatchNotFound,
    BatchRunning,
    BatchTooLarge,
    DependencyDown,
    InvalidRequest,
    ModelNotFound,
    RequestIdReused,
)
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
    pieces,
    right_outcome,
)

DAY_S = 86_400


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
    async def check(**options):
        found = await ledger.find_faults(
            empty_database, storage=storage, category_of=category_of, **options
        )
        assert found == []

    return check


async def keys_of(storage):
    return sorted([found.key async for found in storage.list()])


async def remains(url):
    connection = await asyncpg.connect(url)
    tables = ("batches", "batch_items", "batch_chunks", "batch_results", "batch_uploads", "outbox")
    counts = {t: await connection.fetchval(f"SELECT count(*) FROM {t}") for t in tables}
    await connection.close()
    return {table: count for table, count in counts.items() if count}


async def test_a_batch_remembers_how_it_is_to_be_run(batches):
    options = ClassifyOptions(
        model="fake",
        version="stable",
        confidence_threshold=0.25,
        top_k=3,
        include_categories=("a", "b"),
        bounding_boxes=True,
    )
    config = BatchConfig(options, "https://example.com/hook", "r1", 7)
    made = await batches.create("t1", "key", config, links(2))
    assert made.config == config
    assert (await chunks.claim("w", 30)).options == options


async def test_wrong_files_fail_and_the_others_go_on(batches, faultless):
    contents = [b"good", b"", b"x" * 1001, b"good too"]
    made = await batches.create("t1", "key", BatchConfig(), files(contents))
    assert (made.state, made.failed_count, made.pending_count) == (BatchState.QUEUED, 2, 2)
    reasons = [(failure.number, failure.error.reason) for failure in made.failures]
    assert reasons == [(1, "IMAGE_UNDECODABLE"), (2, "IMAGE_TOO_LARGE")]
    chunk = await chunks.claim("w", 30)
    assert [item.number for item in chunk.items] == [0, 3]
    assert await do_chunk(chunk)
    batch = await batches.retry("t1", made.batch_id)  # what was refused stays refused
    assert (batch.state, batch.succeeded_count) == (BatchState.COMPLETED, 2)
    await faultless()


async def test_where_every_file_is_wrong_the_batch_is_complete(batches, faultless):
    made = await batches.create("t1", "key", BatchConfig(), files([b""] * 5))
    assert (made.state, made.failed_count) == (BatchState.COMPLETED, 5)
    assert await chunks.claim("w", 30) is None
    await faultless()


async def test_failures_shown_are_the_first(batches):
    made = await batches.create("t1", "key", BatchConfig(), files([b""] * 30))
    assert [failure.number for failure in made.failures] == list(range(20))
    listed = (await batches.list("t1")).items
    assert listed[0].failures == made.failures


async def test_a_batch_has_limits(database, storage, empty_database):
    batches = Batches(storage, BatchSettings(max_items=3, max_bytes=10), 1000)
    for wrong in (links(4), files([b"123456", b"123457"])):
        with pytest.raises(BatchTooLarge):
            await batches.create("t1", "key", BatchConfig(), wrong)
    with pytest.raises(InvalidRequest, match="at least one"):
        await batches.create("t1", "key", BatchConfig(), links(0))
    await batches.remove_images(100)
    assert await remains(empty_database) == {}
    assert await keys_of(storage) == []


async def test_options_are_refused_before_anything_is_read(database, storage):
    async def refuse(config):
        raise ModelNotFound(config.options.model)

    batches = Batches(storage, BatchSettings(), 1000, check=refuse)
    with pytest.raises(ModelNotFound):
        await batches.create("t1", "key", BatchConfig(), numbered(3))
    assert await keys_of(storage) == []


async def test_a_call_that_breaks_off_leaves_nothing(batches, storage, empty_database):
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
    assert await batches.remove_images(10) == 5
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
    await batches.remove_images(10)
    assert await remains(empty_database) == {}
    assert await keys_of(storage) == []


async def test_what_a_dead_server_left_is_swept(batches, storage, faultless):
    stored = await storage.store_image("t1", pieces(b"left"), 100)
    await storage.store_image("t1", pieces(b"stored, and its item not written"), 100)
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
    assert await batches.remove_images(10) == 2
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


async def test_a_slow_upload_says_that_it_goes_on(database, storage):
    batches = Batches(storage, BatchSettings(upload_lease_s=0.2), 1000)

    async def slow():
        async for item in links(2):
            yield item
            await asyncio.sleep(0.4)
            assert await batches.give_up_silent_uploads() == 0

    assert (await batches.create("t1", "key", BatchConfig(), slow())).item_count == 2


async def test_the_same_request_id_answers_with_the_same_batch(batches, faultless):
    config = BatchConfig(request_id="r1")
    first = await batches.create("t1", "key", config, numbered(5))
    again = await batches.create("t1", "key", config, numbered(5))
    assert again == first
    for other, items in (
        (config, numbered(6)),
        (config, numbered(5, "other")),
        (BatchConfig(request_id="r1", priority=1), numbered(5)),
        (BatchConfig(ClassifyOptions(top_k=1), request_id="r1"), numbered(5)),
        (BatchConfig(webhook_url="https://example.com", request_id="r1"), numbered(5)),
    ):
        with pytest.raises(RequestIdReused):
            await batches.create("t1", "key", other, items)
    other_tenant = await batches.create("t2", "key", config, numbered(6))
    assert other_tenant.batch_id != first.batch_id
    await do_all()
    await batches.remove_images(100)
    await faultless(acknowledged=[first.batch_id, other_tenant.batch_id])


async def test_a_request_id_is_forgotten_after_a_day(batches):
    config = BatchConfig(request_id="r1")
    first = await batches.create("t1", "key", config, numbered(2))
    clock.shift(DAY_S - 10)
    assert (await batches.create("t1", "key", config, numbered(2))).batch_id == first.batch_id
    clock.shift(DAY_S + 1)
    later = await batches.create("t1", "key", config, numbered(3))
    assert later.batch_id != first.batch_id
    assert (await batches.get("t1", first.batch_id)).config.request_id == ""


async def test_of_equal_requests_at_once_one_becomes_the_batch(batches, faultless):
    config = BatchConfig(request_id="r1")
    made = await asyncio.gather(
        *(batches.create("t1", "key", config, numbered(10)) for _ in range(20))
    )
    assert len({batch.batch_id for batch in made}) == 1
    assert len((await batches.list("t1")).items) == 1
    await do_all()
    await batches.remove_images(100)
    await faultless(acknowledged=[made[0].batch_id])


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
    await asyncio.sleep(0.05)
    while chunk := await chunks.claim("w", 30):
        await asyncio.sleep(0.05)
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
    assert len(await keys_of(storage)) == 2
    await faultless(acknowledged=[second.batch_id])
    await batches.delete("t1", second.batch_id)
    assert await keys_of(storage) == []
    assert set(await remains(empty_database)) == {"outbox"}  # two messages that they completed


async def test_no_image_goes_while_an_upload_may_rely_on_it(batches, storage, faultless):
    first = await batches.create("t1", "key", BatchConfig(), files([b"shared"]))
    await do_all()

    async def meanwhile():
        yield NewItem("a.jpg", pieces(b"shared"), None)
        await batches.delete("t1", first.batch_id)
        assert len(await keys_of(storage)) == 1

    second = await batches.create("t1", "key", BatchConfig(), meanwhile())
    await do_all()
    assert await batches.remove_images(10) == 0
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
            else:
                alive.append(made.batch_id)

    await asyncio.gather(*(user(n) for n in range(5)))
    await batches.remove_images(1000)
    await faultless(acknowledged=alive)


async def test_a_bell_that_cannot_be_rung_fails_nothing(database, storage):
    async def ring(batch_id):
        raise DependencyDown("redis does not answer")

    batches = Batches(storage, BatchSettings(), 1000, ring=ring)
    made = await batches.create("t1", "key", BatchConfig(), links(1))
    assert made.state is BatchState.QUEUED


@pytest.mark.timeout(120)
async def test_a_large_upload_takes_little_memory(database):
    class Nowhere(MemoryStorage):
        async def put(self, key, content):
            pass

    batches = Batches(Nowhere(), BatchSettings(), 1000)
    await batches.create("t1", "key", BatchConfig(), numbered(10))
    tracemalloc.start()
    try:
        made = await batches.create("t1", "key", BatchConfig(), numbered(20_000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert made.item_count == 20_000
    assert peak < 5_000_000
