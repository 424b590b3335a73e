"""Workers in this process: an engine, its tools, a real server, real stores."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from image_categorizer import Unavailable as ServerBusy
from image_categorizer_server.db import batch as batch_rows
from image_categorizer_server.db import chunk as chunks
from image_categorizer_server.db import result as results
from image_categorizer_server.domain.access import Role
from image_categorizer_server.domain.batch import Batch, BatchConfig, BatchState
from image_categorizer_server.domain.classification import ClassifyOptions
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.services.batch import Batches
from image_categorizer_server.services.upload import NewItem
from image_categorizer_server.settings import Settings
from image_categorizer_server.stores.object_store import open_storage
from image_categorizer_server.stores.queue import QUEUE, Doorbell
from image_categorizer_server.stores.redis import open_redis
from image_categorizer_workers.chunk import Room, Tools, Work
from image_categorizer_workers.engine import Engine
from image_categorizer_workers.listener import listen
from image_categorizer_workers.main import open_parts
from image_categorizer_workers.streams import CallFailed, Feeds

from tests.integration.conftest import running_server
from tests.support.batch_tools import count_waiting
from tests.support.ledger import Picture, pictures

TENANT = "default"
ENDED = BatchState.COMPLETED, BatchState.FAILED, BatchState.CANCELLED


@pytest.fixture
def settings(settings, tmp_path) -> Settings:
    changed: Settings = settings.model_copy(
        update={
            "models": settings.models.model_copy(update={"default": "fake"}),
            "test": settings.test.model_copy(update={"fake_model": "0,0"}),
            "storage": settings.storage.model_copy(update={"path": tmp_path / "images"}),
            "worker": settings.worker.model_copy(
                update={"poll_interval_s": 0.1, "lease_s": 2.0, "patience_s": 3.0}
            ),
        }
    )
    return changed


@pytest.fixture
async def batches(settings, database) -> AsyncIterator[Batches]:
    async with open_storage(settings) as storage:
        yield Batches(storage, settings.batch, settings.max_image_bytes)


@asynccontextmanager
async def tools_of(settings: Settings) -> AsyncIterator[Tools]:
    """A running server, and what a worker needs to use it."""
    async with running_server(settings) as server:
        client = {"base_url": server.address, "api_key": await server.key(Role.WORKER)}
        calls = settings.client.model_copy(update=client)
        async with open_parts(settings.model_copy(update={"client": calls})) as parts:
            yield parts.tools


@asynccontextmanager
async def working(tools: Tools) -> AsyncIterator[Engine]:
    engine = Engine("test", tools)
    running = asyncio.create_task(engine.run())
    try:
        yield engine
    finally:
        engine.stop()
        await running


async def content(picture: Picture) -> AsyncIterator[bytes]:
    yield picture.content


async def submit(
    batches: Batches, given: list[Picture], tenant: str = TENANT, **options: object
) -> str:
    async def items() -> AsyncIterator[NewItem]:
        for picture in given:
            yield NewItem(picture.name, content(picture), None)

    config = BatchConfig(options=ClassifyOptions(**options))  # type: ignore[arg-type]
    return (await batches.create(tenant, "key", config, items())).batch_id


async def ended(batch_id: str, within_s: float = 20, tenant: str = TENANT) -> Batch:
    async with asyncio.timeout(within_s):
        while (batch := await batch_rows.find(tenant, batch_id)).state not in ENDED:
            await asyncio.sleep(0.02)
    return batch


async def test_every_image_gets_the_category_that_its_pixels_have(settings, batches):
    given = pictures(100)
    async with tools_of(settings) as tools, working(tools):
        batch = await ended(await submit(batches, given))
    assert (batch.succeeded_count, batch.failed_count) == (100, 0)
    found = await results.list_results(TENANT, batch.batch_id, -1, 1000)
    assert [r.predictions[0].category.name for r in found] == [p.category for p in given]
    assert {r.model.name for r in found if r.model} == {"fake"}


async def test_an_image_that_is_none_fails_alone(settings, batches):
    given = [*pictures(20), Picture("bad.jpg", b"no image", "")]
    async with tools_of(settings) as tools, working(tools):
        batch = await ended(await submit(batches, given))
    assert (batch.state, batch.succeeded_count) == (BatchState.COMPLETED, 20)
    (failure,) = batch.failures
    assert failure.filename == "bad.jpg"
    assert failure.error is not None
    assert failure.error.status == "INVALID_ARGUMENT"
    assert failure.error.reason == "IMAGE_UNDECODABLE"


async def test_a_batch_whose_model_is_gone_fails_as_a_whole(settings, batches):
    async with tools_of(settings) as tools, working(tools):
        batch = await ended(await submit(batches, pictures(40), model="unheard-of"))
        good = await ended(await submit(batches, pictures(40)))
    assert batch.state is BatchState.FAILED
    assert "unheard-of" in batch.state_message
    assert good.succeeded_count == 40


async def test_a_ring_wakes_an_idle_worker_long_before_it_looks_by_itself(settings, batches):
    worker = settings.worker.model_copy(update={"poll_interval_s": 600.0})
    async with (
        tools_of(settings.model_copy(update={"worker": worker})) as tools,
        working(tools) as engine,
        open_redis(settings.redis_url, settings.redis) as redis,
    ):
        bell = Doorbell(redis)
        await bell.arq.flushdb()
        listening = asyncio.create_task(listen(bell, engine.wake))
        await asyncio.sleep(0.3)
        batch_id = await submit(batches, pictures(3))
        await bell.ring(batch_id)
        await ended(batch_id)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        # Nothing of the ring stays behind.
        assert await bell.arq.keys("*") == [f"{QUEUE}:health-check".encode()]


async def test_a_worker_that_stops_gives_back_what_it_has_not_begun(settings, batches):
    slow = settings.model_copy(
        update={
            "test": settings.test.model_copy(update={"fake_model": "0,100"}),
            "worker": settings.worker.model_copy(update={"grace_s": 0.0}),
        }
    )
    batch_id = await submit(batches, pictures(96))
    async with tools_of(slow) as tools, working(tools):
        await asyncio.sleep(1.0)
    pending = (await batch_rows.find(TENANT, batch_id)).pending_count
    assert await count_waiting() == pending > 0
    async with tools_of(settings) as tools, working(tools):
        batch = await ended(batch_id)
    assert batch.succeeded_count == 96


async def test_what_belongs_to_a_lost_lease_is_not_written(settings, batches):
    batch_id = await submit(batches, pictures(5))
    async with tools_of(settings) as tools:
        late = await chunks.claim("late", 0.001)
        assert late is not None
        await asyncio.sleep(0.01)
        assert await chunks.expire() == 1
        other = await chunks.claim("other", 30)
        assert other is not None
        await Work(late, tools).run()
        assert await results.list_results(TENANT, batch_id, -1, 10) == []
        await Work(other, tools).run()
    assert (await ended(batch_id)).succeeded_count == 5


class FlakyImages:
    """Reads images, and fails now and then as a store does that is not well."""

    def __init__(self, images, every: int) -> None:
        self._images = images
        self._every = every
        self.reads = 0

    async def read(self, item):
        self.reads += 1
        if self.reads % self._every == 0:
            raise DependencyDown("the store does not answer")
        return await self._images.read(item)


class FlakyFeeds(Feeds):
    """Classifies, and fails now and then as a server does that is not well."""

    def __init__(self, feeds: Feeds, every: int) -> None:
        self._real = feeds
        self._every = every
        self.calls = 0

    async def classify(self, tenant_id, options, content):
        self.calls += 1
        if self.calls % self._every == 0:
            raise CallFailed(ServerBusy("the connection broke"))
        return await self._real.classify(tenant_id, options, content)


async def test_faults_that_pass_cost_no_item(settings, batches):
    given = [*pictures(196), *[Picture(f"{n}.txt", f"no image {n}".encode(), "") for n in range(4)]]
    async with tools_of(settings) as tools:
        images, feeds = FlakyImages(tools.images, 10), FlakyFeeds(tools.feeds, 10)
        flaky = Tools(tools.settings, images, feeds, tools.room)
        async with working(flaky):
            batch = await ended(await submit(batches, given))
    assert (batch.succeeded_count, batch.failed_count) == (196, 4)
    # A permanent fault is tried once: reads are the items and the passing faults, no more.
    assert images.reads <= 200 * 1.2
    assert feeds.calls <= 200 * 1.2


async def test_while_nothing_answers_a_chunk_goes_back_uncounted(settings, batches):
    batch_id = await submit(batches, pictures(5))
    async with tools_of(settings) as tools:
        impatient = tools.settings.model_copy(update={"patience_s": 0.5})
        down = FlakyImages(tools.images, 1)
        async with working(Tools(impatient, down, tools.feeds, tools.room)):
            await asyncio.sleep(2)
        assert down.reads >= 10
        async with working(tools):
            batch = await ended(batch_id)
    assert batch.succeeded_count == 5


async def test_a_tenant_with_one_small_batch_does_not_wait_for_a_large_one(settings, batches):
    slow = settings.model_copy(
        update={"test": settings.test.model_copy(update={"fake_model": "0,5"})}
    )
    async with tools_of(slow) as tools:
        start_s = time.monotonic()
        async with working(tools):
            await ended(await submit(batches, pictures(10, 1), "small"), tenant="small")
            alone_s = time.monotonic() - start_s
            large = await submit(batches, pictures(900, 2), "large")
            await asyncio.sleep(1)
            start_s = time.monotonic()
            await ended(await submit(batches, pictures(10, 3), "small"), tenant="small")
            beside_s = time.monotonic() - start_s
            assert (await batch_rows.find("large", large)).pending_count > 0
            await ended(large, tenant="large")
    print(f"alone {alone_s:.2f} s, beside a large batch {beside_s:.2f} s")


async def test_room_bounds_images_by_number_and_bytes():
    room, held, most = Room(3, 100), 0, 0

    async def hold(size_bytes: int) -> None:
        nonlocal held, most
        async with room.of(size_bytes):
            held += 1
            most = max(most, held)
            await asyncio.sleep(0.01)
            held -= 1

    await asyncio.gather(*(hold(1) for _ in range(10)))
    assert most == 3
    most = 0
    await asyncio.gather(*(hold(60) for _ in range(10)))
    assert most == 2
