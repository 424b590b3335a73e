"""Workers send the images of all tenants: who may name one, and what goes by the name."""

import asyncio

import grpc
import pytest
from image_categorizer import InvalidRequest, RoleInsufficient
from image_categorizer.v1 import classify_pb2, classify_pb2_grpc
from image_categorizer_server.domain.access import Role
from image_categorizer_server.domain.classification import CacheStatus
from image_categorizer_server.services.batch import Batches
from image_categorizer_server.settings.database import CacheSettings
from image_categorizer_server.stores.object_store import open_storage
from redis.asyncio import Redis

from tests.conftest import SLACK_S
from tests.integration.conftest import running_server
from tests.integration.test_result_cache import ask_of
from tests.integration.test_workers import ended, submit, worker_components, working
from tests.support.ledger import pictures
from tests.support.pictures import jpeg
from tests.support.polling import eventually

PICTURE = jpeg(64, 48)
OTHER_ROLES = [role for role in Role if role is not Role.WORKER]
Request = classify_pb2.ClassifyStreamRequest
HIT, MISS = classify_pb2.ClassifyResponse.HIT, classify_pb2.ClassifyResponse.MISS


@pytest.fixture
async def remembering(settings, stores, tmp_path):
    """Settings of a server that remembers answers, with a model that takes no time."""
    async with Redis.from_url(stores.redis.url) as connection:
        await connection.flushall()
    return settings.model_copy(
        update={
            "cache": CacheSettings(),
            "models": settings.models.model_copy(update={"default": "fake"}),
            "test": settings.test.model_copy(update={"fake_model": "0,0"}),
            "storage": settings.storage.model_copy(update={"path": tmp_path / "images"}),
        }
    )


def opened(channel, key):
    stub = classify_pb2_grpc.ClassifyServiceStub(channel)
    return stub.ClassifyStream(metadata=(("authorization", f"Bearer {key}"),))


async def begin(call, tenant_id, contents):
    """Sends images of one tenant; leaves the stream open."""
    lane = classify_pb2.ClassifyStreamConfig.BATCH
    config = classify_pb2.ClassifyStreamConfig(lane=lane, tenant_id=tenant_id)
    await call.write(Request(config=config))
    for number, content in enumerate(contents):
        item = classify_pb2.ClassifyStreamItem(key=str(number), image=content)
        await call.write(Request(item=item))


@pytest.mark.parametrize("role", OTHER_ROLES)
async def test_nobody_but_workers_may_name_a_tenant(server, role):
    async with await server.client(role) as client:
        with pytest.raises(RoleInsufficient):
            [r async for r in client.classify_stream([("a", PICTURE)], tenant_id="other")]


@pytest.mark.parametrize("tenant_id", ["", "default", "other"])
async def test_a_worker_may_name_any_tenant(server, tenant_id):
    async with await server.client(Role.WORKER) as client:
        stream = client.classify_stream([("a", PICTURE)], tenant_id=tenant_id)
        (result,) = [result async for result in stream]
    assert result.predictions


async def test_a_workers_key_opens_nothing_else(server):
    async with await server.client(Role.WORKER) as client:
        for refused in (client.classify_image(PICTURE), client.models.categories()):
            with pytest.raises(RoleInsufficient, match="worker"):
                await refused


async def test_a_name_that_no_tenant_can_have_is_refused(server):
    async with await server.client(Role.WORKER) as client:
        with pytest.raises(InvalidRequest) as caught:
            [r async for r in client.classify_stream([("a", PICTURE)], tenant_id="t" * 65)]
    assert [field for field, _ in caught.value.violations] == ["config.tenant_id"]


async def test_answers_are_cached_only_for_the_named_tenant(remembering):
    async with running_server(remembering) as server:
        key, found = await server.key(Role.WORKER), []
        for tenant_id in ("a", "a", "b"):
            async with grpc.aio.insecure_channel(server.address) as channel:
                call = opened(channel, key)
                await begin(call, tenant_id, [PICTURE])
                found.append((await call.read()).response.cache)
                call.cancel()
    assert found == [MISS, HIT, MISS]


async def test_a_batch_is_classified_for_its_own_tenant(remembering):
    (picture,) = pictures(1)
    async with running_server(remembering) as server, open_storage(remembering) as storage:
        batches = Batches(storage, remembering.batch, remembering.max_image_bytes)
        async with worker_components(remembering, server) as components, working(components):
            await ended(await submit(batches, [picture], tenant="a"), tenant="a")
        found = [(await ask_of(server, picture.content, t)).cache for t in ("a", "default")]
    assert found == [CacheStatus.HIT, CacheStatus.MISS]


async def test_a_worker_with_a_refused_key_says_what_to_do_and_loses_nothing(remembering, caplog):
    (picture,) = pictures(1)
    hint = "keys create workers --role worker"
    async with running_server(remembering) as server, open_storage(remembering) as storage:
        batches = Batches(storage, remembering.batch, remembering.max_image_bytes)
        batch_id = await submit(batches, [picture])
        impatient = remembering.worker.model_copy(update={"grace_s": 0.1})
        changed = remembering.model_copy(update={"worker": impatient})
        async with (
            worker_components(changed, server, Role.CLASSIFIER) as components,
            working(components),
        ):
            await eventually(lambda: hint in caplog.text, SLACK_S)
        async with worker_components(changed, server) as components, working(components):
            assert (await ended(batch_id)).succeeded_count == 1


async def test_tenants_of_one_worker_are_served_alternately(remembering):
    slow = remembering.test.model_copy(update={"fake_model": "0,20"})
    order: list[str] = []

    async def read(call, name, count):
        for _ in range(count):
            assert (await call.read()).response.success
            order.append(name)

    async with (
        running_server(remembering.model_copy(update={"test": slow})) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        key = await server.key(Role.WORKER)
        large, small = opened(channel, key), opened(channel, key)
        many = [picture.content for picture in pictures(60)]
        await begin(large, "large", many)
        await begin(small, "small", [picture.content for picture in pictures(3, seed=100)])
        await asyncio.gather(read(large, "large", 60), read(small, "small", 3))
        large.cancel()
        small.cancel()
    last = max(place for place, name in enumerate(order) if name == "small")
    assert len(order) - last > 20
