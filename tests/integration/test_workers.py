"""Workers in this process: an engine and its components, a real server, real stores."""

import asyncio
import dataclasses
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from image_categorizer import Unavailable as ServerBusy
from image_categorizer_server.db import batch as batch_rows
from image_categorizer_server.db import chunk as chunks
from image_categorizer_server.db import result as results
from image_categorizer_server.db.database import connected
from image_categorizer_server.domain.access import Role
from image_categorizer_server.domain.batch import Batch, BatchConfig, BatchState
from image_categorizer_server.domain.classification import ClassifyOptions
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.services.batch import Batches
from image_categorizer_server.services.data_key import open_sealer
from image_categorizer_server.services.upload import NewItem
from image_categorizer_server.settings import Settings
from image_categorizer_server.settings.worker import WorkerSettings
from image_categorizer_server.stores.object_store import open_storage
from image_categorizer_server.stores.queue import QUEUE, Doorbell
from image_categorizer_server.stores.redis import open_redis
from image_categorizer_server.tasks import TaskOwner, cancel_until_ended
from image_categorizer_workers.chunk import ChunkRunner, Components
from image_categorizer_workers.engine import Engine
from image_categorizer_workers.listener import listen
from image_categorizer_workers.main import open_components
from image_categorizer_workers.quarantine import run_isolated
from image_categorizer_workers.streams import CallFailed, StreamPool

from tests.integration.conftest import Running, running_server
from tests.support.batch_tools import count_waiting
from tests.support.ledger import Picture, pictures
from tests.support.polling import elapsed, eventually

TENANT = "default"


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
async def worker_components(
    settings: Settings, server: Running, role: Role = Role.WORKER
) -> AsyncIterator[Components]:
    """What a worker needs to use a running server."""
    client = {"base_url": server.address, "api_key": await server.key(role)}
    changed = settings.model_copy(update={"client": settings.client.model_copy(update=client)})
    async with (
        open_storage(changed, open_sealer(changed.encryption)) as storage,
        open_components(changed, storage) as components,
    ):
        yield components


@asynccontextmanager
async def open_installation(settings: Settings) -> AsyncIterator[Components]:
    """A running server, and what a worker needs to use it."""
    async with (
        running_server(settings) as server,
        worker_components(settings, server) as components,
    ):
        yield components


@asynccontextmanager
async def working(components: Components) -> AsyncIterator[Engine]:
    engine = Engine("test", components)
    async with TaskOwner() as tasks:
        tasks.start(engine.run(), "engine")
        yield engine
        engine.stop()
        await tasks.wait()
        tasks.check()


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
    async def has_ended() -> bool:
        return (await batch_rows.find(tenant, batch_id)).state.has_ended

    await eventually(has_ended, within_s)
    return await batch_rows.find(tenant, batch_id)


async def test_every_image_gets_the_category_that_its_pixels_have(settings, batches):
    given = pictures(100)
    async with open_installation(settings) as components, working(components):
        batch = await ended(await submit(batches, given))
    assert (batch.succeeded_count, batch.failed_count) == (100, 0)
    found = await results.list_results(TENANT, batch.batch_id, -1, 1000)
    assert [r.predictions[0].category.name for r in found] == [p.category for p in given]
    assert {r.model.name for r in found if r.model} == {"fake"}


async def test_a_file_that_is_no_image_fails_and_no_other(settings, batches):
    given = [*pictures(20), Picture("bad.jpg", b"no image", "")]
    async with open_installation(settings) as components, working(components):
        batch = await ended(await submit(batches, given))
    assert (batch.state, batch.succeeded_count) == (BatchState.COMPLETED, 20)
    (failure,) = batch.failures
    assert failure.filename == "bad.jpg"
    assert failure.error is not None
    assert failure.error.status == "INVALID_ARGUMENT"
    assert failure.error.reason == "IMAGE_UNDECODABLE"


async def test_a_batch_with_a_missing_model_fails_as_a_whole(settings, batches):
    async with open_installation(settings) as components, working(components):
        batch = await ended(await submit(batches, pictures(40), model="missing"))
        good = await ended(await submit(batches, pictures(40)))
    assert batch.state is BatchState.FAILED
    assert "missing" in batch.state_message
    assert good.succeeded_count == 40


async def test_the_doorbell_wakes_an_idle_worker_long_before_its_poll(settings, batches):
    worker = settings.worker.model_copy(update={"poll_interval_s": 600.0})
    async with (
        open_installation(settings.model_copy(update={"worker": worker})) as components,
        working(components) as engine,
        open_redis(settings.redis_url, settings.redis) as redis,
        asyncio.TaskGroup() as group,
    ):
        await redis.commands.flushdb()
        listening = group.create_task(listen(Doorbell(redis), engine.wake))
        await elapsed(0.3)  # lets the engine find no work
        batch_id = await submit(batches, pictures(3))
        await Doorbell(redis).ring(batch_id)
        await ended(batch_id)
        await cancel_until_ended({listening})
        # No job stays behind.
        assert await redis.commands.keys("*") == [f"{QUEUE}:health-check".encode()]


async def test_a_worker_that_stops_gives_back_what_it_has_not_begun(settings, batches):
    slow = settings.model_copy(
        update={
            "test": settings.test.model_copy(update={"fake_model": "0,100"}),
            "worker": settings.worker.model_copy(update={"grace_s": 0.0}),
        }
    )
    batch_id = await submit(batches, pictures(96))
    async with open_installation(slow) as components, working(components):
        await elapsed(1.0)
    pending = (await batch_rows.find(TENANT, batch_id)).pending_count
    assert await count_waiting() == pending > 0
    async with open_installation(settings) as components, working(components):
        batch = await ended(batch_id)
    assert batch.succeeded_count == 96


async def test_outcomes_of_a_lost_lease_are_not_written(settings, batches):
    batch_id = await submit(batches, pictures(5))
    async with open_installation(settings) as components:
        late = await chunks.claim("late", 0.001)
        assert late is not None
        await elapsed(0.01)
        assert await chunks.expire() == 1
        other = await chunks.claim("other", 30)
        assert other is not None
        await ChunkRunner(late, components).run()
        assert await results.list_results(TENANT, batch_id, -1, 10) == []
        await ChunkRunner(other, components).run()
    assert (await ended(batch_id)).succeeded_count == 5


class FlakyImages:
    """Reads images. Fails now and then, as a store in trouble does."""

    def __init__(self, images, every: int) -> None:
        self._images = images
        self._every = every
        self.reads = 0

    async def read(self, item):
        self.reads += 1
        if self.reads % self._every == 0:
            raise DependencyDown("the store does not answer")
        return await self._images.read(item)


class FlakyStreams(StreamPool):
    """Classifies. Fails now and then, as a server in trouble does."""

    def __init__(self, streams: StreamPool, every: int) -> None:
        self._real = streams
        self._every = every
        self.calls = 0

    async def classify(self, kind, image):
        self.calls += 1
        if self.calls % self._every == 0:
            raise CallFailed(ServerBusy("the connection broke"))
        return await self._real.classify(kind, image)


async def test_temporary_faults_cost_no_item(settings, batches):
    given = [*pictures(196), *[Picture(f"{n}.txt", f"no image {n}".encode(), "") for n in range(4)]]
    async with open_installation(settings) as components:
        images = FlakyImages(components.images, 10)
        streams = FlakyStreams(components.streams, 10)
        async with working(dataclasses.replace(components, images=images, streams=streams)):
            batch = await ended(await submit(batches, given))
    assert (batch.succeeded_count, batch.failed_count) == (196, 4)
    # A permanent fault is tried once: one read for each item and each temporary fault, no more.
    assert images.reads <= 200 * 1.2
    assert streams.calls <= 200 * 1.2


async def test_while_a_dependency_is_down_chunks_are_given_back_without_a_crash(settings, batches):
    batch_id = await submit(batches, pictures(5))
    async with open_installation(settings) as components:
        impatient = components.settings.model_copy(update={"patience_s": 0.5})
        down = FlakyImages(components.images, 1)
        async with working(dataclasses.replace(components, settings=impatient, images=down)):
            await elapsed(2)
        assert down.reads >= 10
        async with working(components):
            batch = await ended(batch_id)
    assert batch.succeeded_count == 5


async def test_an_unknown_error_fails_an_image_after_some_attempts(settings, batches):
    class Broken:
        async def read(self, item):
            raise ZeroDivisionError

    hasty = settings.worker.model_copy(update={"max_attempts": 2})
    changed = settings.model_copy(update={"worker": hasty})
    async with (
        open_installation(changed) as components,
        working(dataclasses.replace(components, images=Broken())),
    ):
        batch = await ended(await submit(batches, pictures(2)))
    assert batch.failed_count == 2
    assert {failure.error.reason for failure in batch.failures if failure.error} == {"INTERNAL"}


async def test_a_small_batch_of_one_tenant_does_not_wait_for_a_large_one(settings, batches):
    slow = settings.model_copy(
        update={"test": settings.test.model_copy(update={"fake_model": "0,5"})}
    )
    async with open_installation(slow) as components, working(components):
        await ended(await submit(batches, pictures(10, 1), "small"), tenant="small")
        large = await submit(batches, pictures(900, 2), "large")
        await elapsed(1)
        await ended(await submit(batches, pictures(10, 3), "small"), tenant="small")
        assert (await batch_rows.find("large", large)).pending_count > 0
        await ended(large, tenant="large")


async def test_an_isolated_image_that_hangs_is_a_crash_after_its_time(
    stores, settings, batches, monkeypatch
):
    """The server accepts connections and never answers, so the child process waits for ever."""
    silent = socket.socket(socket.AF_INET)
    silent.bind(("127.0.0.1", 0))
    silent.listen()
    for name, value in {
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "CATEGORIZER_STORAGE__PATH": str(settings.storage.path),
        "CATEGORIZER_CLIENT__BASE_URL": f"http://127.0.0.1:{silent.getsockname()[1]}",
        "CATEGORIZER_CLIENT__API_KEY": "ic_none",
        "CATEGORIZER_WORKER__PATIENCE_S": "600",
    }.items():
        monkeypatch.setenv(name, value)
    await submit(batches, pictures(1))
    chunk = await chunks.claim("w", 30)
    with silent:
        limits = WorkerSettings(isolated_timeout_s=3)
        async with asyncio.timeout(30):
            await run_isolated(chunk, limits, asyncio.Semaphore(1))
    async with connected() as connection:
        crashes = await connection.fetchval("SELECT max(worker_crashes) FROM batch_chunks")
    assert crashes == 1
