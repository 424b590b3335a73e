"""Tenants do not see one another: not by any argument of any RPC, nor without the queries' filters.

Half of the tests run with every condition on the tenant taken out of the SQL, so that row-level
security alone keeps the tenants apart.
"""

import asyncio
import re
import statistics
import time

import asyncpg
import grpc
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from image_categorizer import AsyncImageCategorizationClient
from image_categorizer.v1 import batch_pb2, classify_pb2
from image_categorizer_server.db.engine import Client
from image_categorizer_server.domain.access import Role
from image_categorizer_server.settings.database import CacheSettings
from redis.asyncio import Redis

from tests.integration.conftest import running_server
from tests.integration.test_stream_tenants import begin, opened
from tests.support.database import connect_as_owner, owner_of
from tests.support.pictures import jpeg
from tests.support.tenant_rows import OURS, THEIRS, contents
from tests.support.two_tenants import (
    MARK,
    PICTURE,
    absent_twin,
    call,
    furnish,
    methods,
    texts_of,
)

METHODS = methods()
# Conditions such as `r.tenant_id = $2`, and Tortoise's `"tenant_id"=$1`.
FILTER = re.compile(r'(?:\w+\.)?(?:"\w+"\.)?"?tenant_id"?\s*=\s*(\$\d+)')
SHORT, LONG = 100, 1000
SAMPLES, MAX_DIFFERENCE_S = 200, 0.005


def unfiltered(query: str) -> str:
    """Returns a statement without its conditions on the tenant."""
    return FILTER.sub(r"(\1::text IS NOT NULL)", query)


class Unfiltered(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """A connection whose statements forget whose rows they are for."""

    async def execute(self, query, *values, **options):
        return await super().execute(unfiltered(query), *values, **options)

    async def fetch(self, query, *values, **options):
        return await super().fetch(unfiltered(query), *values, **options)

    async def fetchrow(self, query, *values, **options):
        return await super().fetchrow(unfiltered(query), *values, **options)

    async def fetchval(self, query, *values, **options):
        return await super().fetchval(unfiltered(query), *values, **options)


@pytest.fixture(params=["with filters", "without filters"])
def filters(request, monkeypatch):
    """Whether the statements of the server have their conditions on the tenant."""
    if request.param == "without filters":
        monkeypatch.setattr(Client, "connection_class", Unfiltered)


class Scene:
    """A server, what two tenants have on it, and a channel to it."""

    def __init__(self, server, channel, owner, ours, theirs):
        self.server, self.channel, self.owner = server, channel, owner
        self.ours, self.theirs = ours, theirs

    async def check(self, number, choices):
        """Makes one call with names of the other tenant, and with names that nobody has."""
        method = METHODS[number % len(METHODS)]
        fields = list(texts_of(method))
        foreign = [name for name, (is_theirs, _) in zip(fields, choices, strict=False) if is_theirs]
        with_theirs, with_none = {}, {}
        for name, (_, choice) in zip(fields, choices, strict=False):
            if name in (foreign or fields[:1]):
                value = self.value_for(name, choice)
                with_theirs[name] = value
                with_none[name] = value if name == "page_token" else absent_twin(value)
            else:
                with_theirs[name] = with_none[name] = self.ours.of(name, choice)
        key = self.ours.api_key
        exists = await call(self.channel, key, method, with_theirs)
        absent = await call(self.channel, key, method, with_none)
        about = f"{method.name} {with_theirs} {with_none}"
        assert (exists.code, exists.text) == (absent.code, absent.text), about
        assert MARK not in exists.raw, f"{about}: {exists.raw}"
        return exists

    def value_for(self, name, choice):
        """Returns something of the other tenant: of any kind, more often what fits the field."""
        if choice % 2:
            return self.theirs.values[choice % len(self.theirs.values)]
        return self.theirs.of(name, choice) or self.theirs.values[choice % len(self.theirs.values)]


@pytest.fixture
async def scene(settings, filters, empty_database):
    owner = await connect_as_owner(empty_database)
    async with running_server(settings) as server:
        ours = await furnish(server, owner, OURS)
        theirs = await furnish(server, owner, THEIRS)
        async with grpc.aio.insecure_channel(server.address) as channel:
            yield Scene(server, channel, owner, ours, theirs)
    await owner.close()


async def examine(scene, count):
    """Checks generated calls; then, that the other tenant has exactly what it had."""
    before = await contents(scene.owner, THEIRS)
    loop = asyncio.get_running_loop()
    choices = st.lists(st.tuples(st.booleans(), st.integers(0, 200)), min_size=12, max_size=12)

    @hypothesis_settings(
        max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.integers(0, 10_000), choices)
    def generated(number, chosen):
        asyncio.run_coroutine_threadsafe(scene.check(number, chosen), loop).result(60)

    await asyncio.to_thread(generated)
    assert await contents(scene.owner, THEIRS) == before


async def test_what_another_tenant_has_looks_like_what_does_not_exist(scene):
    await examine(scene, SHORT)


@pytest.mark.slow
async def test_a_thousand_calls_show_and_change_nothing(scene):
    await examine(scene, LONG)


async def test_no_argument_of_an_rpc_reaches_another_tenant(scene):
    before = await contents(scene.owner, THEIRS)
    for number, method in enumerate(METHODS):
        for position in range(len(list(texts_of(method)))):
            for choice in range(3):
                await scene.check(number, [(place == position, choice) for place in range(12)])
        assert await contents(scene.owner, THEIRS) == before, method.name


async def test_lists_hold_only_what_is_ones_own(scene):
    async with AsyncImageCategorizationClient(scene.ours.api_key, scene.server.address) as client:
        batches = [batch.batch_id async for batch in client.batches.list()]
        webhooks = [webhook.webhook_id async for webhook in client.webhooks.list()]
        results = [
            result.filename async for result in client.batches.results(scene.ours.batch_ids[0])
        ]
        deliveries = [
            delivery.delivery_id
            async for delivery in client.webhooks.deliveries(scene.ours.webhook_ids[0])
        ]
    assert sorted(batches) == sorted(scene.ours.batch_ids)
    assert webhooks == ["default", *scene.ours.webhook_ids]
    assert results == [f"{OURS}-secret.jpg", f"{OURS}-bad.jpg"]
    assert sorted(deliveries) == sorted(scene.ours.delivery_ids)


async def test_a_request_id_of_another_tenant_makes_a_batch_of_ones_own(scene):
    create = next(method for method in METHODS if method.name == "CreateBatch")
    request_id = f"{THEIRS}-request-0"
    key = scene.ours.api_key
    for _ in range(2):  # the second call repeats our own, not theirs
        answer = await call(scene.channel, key, create, {"request_id": request_id})
        assert answer.code is grpc.StatusCode.OK
    rows = await scene.owner.fetch(
        "SELECT tenant_id, batch_id FROM batches WHERE request_id = $1", request_id
    )
    assert sorted(row["tenant_id"] for row in rows) == [OURS, THEIRS]
    assert len({row["batch_id"] for row in rows}) == 2


async def test_nobody_but_a_worker_names_a_tenant_in_a_stream(scene):
    seen = [await refusal_of(scene, scene.ours.api_key, name) for name in (THEIRS, "nobody")]
    assert seen[0] == seen[1]
    assert seen[0][0] is grpc.StatusCode.PERMISSION_DENIED


async def test_a_worker_cannot_name_all_tenants(scene):
    code, _ = await refusal_of(scene, await scene.server.key(Role.WORKER), "*")
    assert code is grpc.StatusCode.INVALID_ARGUMENT


async def refusal_of(scene, key, tenant_id):
    """Returns the code and the message of a stream that names a tenant."""
    stream = opened(scene.channel, key)
    try:
        await begin(stream, tenant_id, [PICTURE])
        await stream.read()
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details()
    raise AssertionError(f"a stream names {tenant_id}")


async def test_the_calls_find_a_leak_where_there_is_one(settings, empty_database, monkeypatch):
    """Without the conditions and without row-level security, as the owner, a batch is read."""
    monkeypatch.setattr(Client, "connection_class", Unfiltered)
    leaking = settings.model_copy(update={"database_url": owner_of(empty_database)})
    owner = await connect_as_owner(empty_database)
    async with running_server(leaking) as server:
        ours, theirs = [await furnish(server, owner, t) for t in (OURS, THEIRS)]
        async with grpc.aio.insecure_channel(server.address) as channel:
            scene = Scene(server, channel, owner, ours, theirs)
            get = next(n for n, method in enumerate(METHODS) if method.name == "GetBatch")
            with pytest.raises(AssertionError, match="GetBatch"):
                await scene.check(get, [(True, 0)] * 12)
    await owner.close()


async def test_an_answer_that_another_tenant_has_cached_is_not_found(settings, stores):
    async with Redis.from_url(stores.redis.url) as connection:
        await connection.flushall()
    remembering = settings.model_copy(update={"cache": CacheSettings(timeout_s=5)})
    found = []
    async with running_server(remembering) as server:
        for tenant_id in (THEIRS, THEIRS, OURS):
            key = await server.key(Role.CLASSIFIER, tenant_id)
            async with grpc.aio.insecure_channel(server.address) as channel:
                classify = channel.unary_unary(
                    "/image_categorizer.v1.ClassifyService/Classify",
                    classify_pb2.ClassifyRequest.SerializeToString,
                    classify_pb2.ClassifyResponse.FromString,
                )
                headers = (("authorization", f"Bearer {key}"),)
                request = classify_pb2.ClassifyRequest(image=jpeg(64, 48, 7))
                found.append((await classify(request, metadata=headers)).cache)
    HIT, MISS = classify_pb2.ClassifyResponse.HIT, classify_pb2.ClassifyResponse.MISS  # noqa: N806
    assert found == [MISS, HIT, MISS]


@pytest.mark.slow
async def test_what_exists_elsewhere_takes_as_long_as_what_does_not_exist(scene):
    get = scene.channel.unary_unary(
        "/image_categorizer.v1.BatchService/GetBatch",
        batch_pb2.GetBatchRequest.SerializeToString,
        batch_pb2.Batch.FromString,
    )
    headers = (("authorization", f"Bearer {scene.ours.api_key}"),)
    theirs = scene.theirs.batch_ids[0]
    took_s = {theirs: [], absent_twin(theirs): []}
    for _ in range(SAMPLES):
        for batch_id, samples in took_s.items():
            begin_s = time.perf_counter()
            with pytest.raises(grpc.aio.AioRpcError):
                await get(batch_pb2.GetBatchRequest(batch_id=batch_id), metadata=headers)
            samples.append(time.perf_counter() - begin_s)
    medians_s = [statistics.median(samples) for samples in took_s.values()]
    print(f"medians: {medians_s[0] * 1000:.2f} ms and {medians_s[1] * 1000:.2f} ms")
    assert abs(medians_s[0] - medians_s[1]) < MAX_DIFFERENCE_S
