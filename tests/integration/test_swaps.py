"""Versions are loaded, moved and unloaded under load: no request fails, no memory leaks."""

import asyncio
import gc
import itertools
from contextlib import asynccontextmanager

import grpc
import numpy as np
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from image_categorizer import (
    InvalidRequest,
    ModelFailed,
    ModelInUse,
    ModelNotFound,
    RoleInsufficient,
)
from image_categorizer._aio import connection
from image_categorizer_server.domain.access import Role
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.inference.models.repository import Repository
from image_categorizer_server.rpc.health import report_health

from tests.integration.conftest import running_server
from tests.support.pictures import jpeg
from tests.support.polling import eventually
from tests.support.tiny_model import write_tiny_model
from tests.unit.conftest import add

CLIENTS = 8
SWAPS = 100
PICTURES = [jpeg(seed=seed) for seed in range(40)]
WARM_UP_CYCLES = 10
MAX_GROWTH_BYTES_PER_CYCLE = 64_000  # a leaked tiny model has at least 600 KB


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    return [write_tiny_model(folder / str(seed), ["rose", "tulip"], seed=seed) for seed in (1, 2)]


@pytest.fixture
async def server(settings, sources):
    repository = Repository(settings.model_path)
    for source in sources:
        add(repository, source)
    async with running_server(settings) as running:
        yield running


@pytest.fixture
def no_retries(monkeypatch):
    """Turns off the retries of the SDK, which would hide failures."""
    monkeypatch.setattr(connection, "MAX_ATTEMPTS", 1)


@asynccontextmanager
async def load(server):
    """Runs clients that classify without a pause; yields the versions of the answers.

    A failed request fails the block.
    """
    answers = []

    async def ask(number):
        async with await server.client() as client:
            for turn in itertools.count(number):
                # Every fourth request names the alias.
                options = {"version": "stable"} if turn % 4 == 0 else {}
                picture = PICTURES[turn % len(PICTURES)]
                answer = await client.classify_image(picture, model="tiny", **options)
                answers.append(answer.model.version)

    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(ask(number)) for number in range(CLIENTS)]
        yield answers
        for task in asking:
            task.cancel()


async def more(answers, count=CLIENTS):
    enough = len(answers) + count
    await eventually(lambda: len(answers) >= enough, interval_s=0.001)


async def test_no_request_fails_while_an_alias_moves_a_hundred_times(server, no_retries):
    async with await server.client(Role.ADMIN) as admin:
        await admin.models.set_alias("tiny", "stable", "1")
        async with load(server) as answers:
            for number in range(SWAPS):
                version = str(2 - number % 2)
                flipped = await admin.models.set_alias("tiny", "stable", version)
                assert flipped.aliases == ("stable",)
                await more(answers)
        # Once the alias has moved, only the new version answers.
        await admin.models.set_alias("tiny", "stable", "1")
        async with load(server) as after:
            await more(after, 20)
    assert set(answers) == {"1", "2"}
    assert set(after) == {"1"}
    print(f"{len(answers)} requests, {SWAPS} flips, 0 failed")


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_memory_stays_flat_while_a_version_is_loaded_and_unloaded(server):
    process, resident = psutil.Process(), []
    async with await server.client(Role.ADMIN, timeout_s=60) as admin:
        for _ in range(SWAPS):
            await admin.models.unload("tiny", "2")
            await admin.models.load("tiny", "2")
            for picture in PICTURES[:8]:
                await admin.classify_image(picture, model="tiny", version="2")
            gc.collect()
            resident.append(process.memory_info().rss)
    measured = resident[WARM_UP_CYCLES:]
    slope = float(np.polyfit(range(len(measured)), measured, 1)[0])
    print(f"{slope / 1000:.1f} kB a cycle, {measured[0] / 1e6:.0f} to {measured[-1] / 1e6:.0f} MB")
    assert slope < MAX_GROWTH_BYTES_PER_CYCLE


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_no_request_fails_while_versions_are_loaded_and_drained(server, no_retries):
    async with await server.client(Role.ADMIN, timeout_s=60) as admin:
        await admin.models.set_alias("tiny", "stable", "1")
        await admin.models.unload("tiny", "2")
        async with load(server) as answers:
            for number in range(SWAPS):
                new, old = ("2", "1") if number % 2 == 0 else ("1", "2")
                assert (await admin.models.load("tiny", new)).runtime == "onnx"
                await admin.models.set_alias("tiny", "stable", new)
                await admin.models.unload("tiny", old)
                await more(answers)
    assert set(answers) == {"1", "2"}
    print(f"{len(answers)} requests, {SWAPS} loads, flips and unloads, 0 failed")


async def test_the_canary_answers_its_share_and_every_picture_consistently(server):
    async with await server.client(Role.ADMIN) as admin:
        await admin.models.set_alias("tiny", "stable", "1")
        canary = await admin.models.set_alias("tiny", "canary", "2", canary_percent=40)
        assert (canary.aliases, canary.canary_percent) == (("canary",), 40)

        async def versions():
            asked = (admin.classify_image(picture, model="tiny") for picture in PICTURES)
            return [answer.model.version for answer in await asyncio.gather(*asked)]

        first = await versions()
        assert 4 <= first.count("2") <= 28
        assert await versions() == first
        named = await admin.classify_image(PICTURES[0], model="tiny", version="canary")
        assert named.model.version == "2"
        await admin.models.set_alias("tiny", "canary", "")
        assert set(await versions()) == {"1"}


async def test_only_admins_may_change_models(server):
    async with await server.client(Role.OPERATOR) as client:
        for order in (
            client.models.load("tiny"),
            client.models.unload("tiny", "1"),
            client.models.set_alias("tiny", "stable", "1"),
        ):
            with pytest.raises(RoleInsufficient, match="requires 'admin'"):
                await order
        assert (await client.models.get("tiny")).version == "2"


async def test_refused_changes_say_why(server, settings):
    async with await server.client(Role.ADMIN) as admin:
        with pytest.raises(ModelNotFound):
            await admin.models.load("nope")
        with pytest.raises(ModelNotFound):
            await admin.models.set_alias("tiny", "stable", "9")
        with pytest.raises(ModelInUse, match="all that the default model"):
            await admin.models.unload("small", "1")
        await admin.models.set_alias("tiny", "stable", "1")
        with pytest.raises(ModelInUse, match="'stable' points to version 1"):
            await admin.models.unload("tiny", "stable")
        await admin.models.unload("tiny", "2")
        assert (await admin.models.get("tiny", "2")).state == "UNLOADED"
        with pytest.raises(ModelFailed, match="it is UNLOADED"):
            await admin.models.set_alias("tiny", "canary", "2")
        folder = settings.model_path / "tiny" / "2"
        (folder / "config.json").write_text("{}")
        with pytest.raises(ModelFailed, match="damaged"):
            await admin.models.load("tiny", "2")


WRONG = [
    ({"alias": "Stable"}, ["alias"]),
    ({"alias": "a" * 33, "version": "x"}, ["alias", "version"]),
    ({"canary_percent": 10}, ["canary_percent"]),
    ({"alias": "canary", "canary_percent": 101}, ["canary_percent"]),
    ({"alias": "canary", "canary_percent": float("nan")}, ["canary_percent"]),
    ({"alias": "canary", "version": "", "canary_percent": 1}, ["canary_percent"]),
    ({"model": ""}, ["model"]),
]


async def test_invalid_requests_name_the_field(server):
    async with await server.client(Role.ADMIN) as admin:
        for wrong, fields in WRONG:
            order = {"model": "tiny", "alias": "stable", "version": "1"} | wrong
            with pytest.raises(InvalidRequest) as caught:
                await admin.models.set_alias(**order)
            assert [field for field, _ in caught.value.violations] == fields
        with pytest.raises(InvalidRequest, match="version: is required"):
            await admin.models.unload("tiny", "")


async def test_each_model_has_a_health_status(server):
    serving, not_serving, unknown = (
        health_pb2.HealthCheckResponse.SERVING,
        health_pb2.HealthCheckResponse.NOT_SERVING,
        health_pb2.HealthCheckResponse.SERVICE_UNKNOWN,
    )
    reporting = asyncio.create_task(report_health(server.backend, server.health))
    try:
        async with (
            grpc.aio.insecure_channel(server.address) as channel,
            await server.client(Role.ADMIN) as admin,
        ):
            watched = health_pb2_grpc.HealthStub(channel).Watch(
                health_pb2.HealthCheckRequest(service="model/tiny")
            )
            states = (answer.status async for answer in watched)
            while (first := await anext(states)) != serving:
                assert first == unknown  # the report has not begun
            for version in ("1", "2"):
                await admin.models.unload("tiny", version)
            assert await anext(states) == not_serving
            await admin.models.load("tiny", "1")
            assert await anext(states) == serving
            server.backend.draining.set()
            assert await anext(states) == not_serving
            watched.cancel()
    finally:
        reporting.cancel()
        await asyncio.gather(reporting, return_exceptions=True)


async def test_a_server_without_its_model_watcher_is_not_ready(server):
    assert await server.backend.check_ready() == []

    async def watch():
        raise RuntimeError("a bug")

    task = server.backend.tasks.start(watch(), "model watcher")
    await asyncio.wait([task])
    with pytest.raises(DependencyDown, match="the model watcher stopped working"):
        await server.backend.check_ready()
