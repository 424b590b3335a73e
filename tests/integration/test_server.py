"""A real server on a unix socket: answers, refusals, deadlines, health, models that come and go."""

import asyncio
import io

import grpc
import numpy as np
import PIL.Image
import PIL.ImageOps
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from image_categorizer import (
    AsyncImageCategorizationClient,
    CredentialsInvalid,
    DeadlineExceeded,
    DependencyDown,
    ImageCategorizationClient,
    InvalidRequest,
    ModelLoading,
    ModelNotFound,
    Overloaded,
    RoleInsufficient,
    Unavailable,
)
from image_categorizer.v1 import classify_pb2, classify_pb2_grpc
from image_categorizer.v1 import health_pb2 as our_health_pb2
from image_categorizer.v1 import health_pb2_grpc as our_health_pb2_grpc
from image_categorizer_server.domain.access import Role
from image_categorizer_server.rpc.services import our_services
from image_categorizer_server.settings.testing import TestSettings

from tests.integration.conftest import running_server
from tests.support.database import connect_as_owner
from tests.support.keys import revoke_keys
from tests.support.memory import watching_memory
from tests.support.pictures import jpeg
from tests.support.polling import elapsed, eventually

PICTURE = jpeg()


async def test_a_picture_gets_predictions_timings_and_the_model(server):
    async with await server.client() as client:
        result = await client.classify_image(PICTURE, top_k=3)
    assert len(result.predictions) == 3
    confidences = [p.confidence for p in result.predictions]
    assert confidences == sorted(confidences, reverse=True)
    assert (result.category, result.confidence) == (result.predictions[0].category, confidences[0])
    assert (result.model.name, result.model.version) == ("small", "1")
    assert result.timing.decode_ms > 0 < result.timing.inference_ms
    assert (result.timing.batch_size, result.timing.batch_close_reason) == (1, "IDLE")
    assert 0 < result.processing_time_s < 5
    assert result.request_id


async def test_both_clients_give_the_same_answer(server, tmp_path):
    file = tmp_path / "picture.jpg"
    file.write_bytes(PICTURE)
    key = await server.key(Role.CLASSIFIER)
    async with await server.client() as client:
        awaited = await client.classify_image(file)

    def ordinary():
        with ImageCategorizationClient(key, server.address) as client, file.open("rb") as opened:
            return client.classify_image(opened), client.models.list(), client.server_info()

    result, models, info = await asyncio.to_thread(ordinary)
    assert result.predictions == awaited.predictions
    assert result.filename == str(file) == awaited.filename
    assert [m.name for m in models] == ["small"]
    assert info.default_model == "small"


async def test_images_of_pillow_and_arrays_get_the_answer_of_their_file(server, tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    PIL.Image.open(io.BytesIO(PICTURE)).save(tmp_path / "turned.png", exif=exif)
    async with await server.client() as client:
        expected = await client.classify_image(tmp_path / "turned.png")
        with PIL.Image.open(tmp_path / "turned.png") as image:
            upright = np.asarray(PIL.ImageOps.exif_transpose(image).convert("RGB"))
            answers = [await client.classify_image(given) for given in (image, upright)]
    for answer in answers:
        assert [p.category for p in answer.predictions] == [
            p.category for p in expected.predictions
        ]
        assert answer.confidence == pytest.approx(expected.confidence, abs=1e-4)


async def test_many_at_once_share_micro_batches(settings):
    test = TestSettings(fake_model="20,0")
    faked = settings.model_copy(update={"test": test})
    async with running_server(faked) as server, await server.client() as client:
        asks = (client.classify_image(PICTURE, model="fake") for _ in range(60))
        results = await asyncio.gather(*asks)
    assert max(r.timing.batch_size for r in results) == 16
    first = results[0].predictions[0].confidence
    assert all(r.predictions[0].confidence == pytest.approx(first, abs=1e-4) for r in results)


async def test_filters_and_threshold(server):
    async with await server.client() as client:
        every = await client.classify_image(PICTURE, top_k=100)
        assert len(every.predictions) == 4
        only = await client.classify_image(PICTURE, include_categories=["cat", "dog"])
        assert {p.category for p in only.predictions} == {"cat", "dog"}
        but = await client.classify_image(PICTURE, top_k=100, exclude_categories=["cat"])
        assert "cat" not in {p.category for p in but.predictions}
        nothing = await client.classify_image(PICTURE, confidence_threshold=1.0)
        assert (nothing.category, nothing.predictions) == (None, ())


async def test_wrong_requests_name_the_field(server):
    async with await server.client() as client:
        with pytest.raises(InvalidRequest) as caught:
            await client.classify_image(PICTURE, confidence_threshold=7, top_k=-1)
        fields = [field for field, _ in caught.value.violations]
        assert fields == ["options.confidence_threshold", "options.top_k"]
        with pytest.raises(ModelNotFound, match="no model 'nope'"):
            await client.classify_image(PICTURE, model="nope")
        with pytest.raises(ModelNotFound, match="no version 9"):
            await client.classify_image(PICTURE, model="small", version="9")
        assert (await client.classify_image(PICTURE)).predictions


async def test_a_request_without_an_image_is_refused(server):
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = classify_pb2_grpc.ClassifyServiceStub(channel)
        headers = (
            ("authorization", f"Bearer {await server.key(Role.ADMIN)}"),
            ("x-request-id", "mine"),
        )
        with pytest.raises(grpc.aio.AioRpcError, match="image: is required") as caught:
            await stub.Classify(classify_pb2.ClassifyRequest(), metadata=headers)
    assert dict(caught.value.trailing_metadata())["x-request-id"] == "mine"


async def test_roles_are_kept(server):
    async with await server.client(Role.VIEWER) as client:
        assert [m.name for m in await client.models.list()] == ["small"]
        with pytest.raises(RoleInsufficient, match="requires 'classifier'"):
            await client.classify_image(PICTURE)


async def test_a_revoked_key_is_refused_within_the_cache_time(server):
    secret = await server.key(Role.CLASSIFIER)
    async with AsyncImageCategorizationClient(secret, server.address) as client:
        await client.classify_image(PICTURE)
        await revoke_keys()
        await elapsed(0.3)
        with pytest.raises(CredentialsInvalid):
            await client.classify_image(PICTURE)


async def test_the_deadline_of_the_caller_is_kept(server):
    async with await server.client(timeout_s=0.0005) as client:
        with pytest.raises(DeadlineExceeded):
            await client.classify_image(PICTURE)


async def test_the_server_has_a_deadline_of_its_own(settings):
    short = settings.model_copy(
        update={"server": settings.server.model_copy(update={"default_deadline_s": 1e-4})}
    )
    async with (
        running_server(short) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub = classify_pb2_grpc.ClassifyServiceStub(channel)
        headers = (("authorization", f"Bearer {await server.key(Role.ADMIN)}"),)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Classify(classify_pb2.ClassifyRequest(image=PICTURE), metadata=headers)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_full_queue_refuses_at_once_and_serves_again(settings):
    inference = settings.inference.model_copy(update={"max_queued": 4, "max_micro_batch_size": 2})
    test = TestSettings(fake_model="50,0")
    narrow = settings.model_copy(update={"inference": inference, "test": test})
    async with (
        running_server(narrow) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub = classify_pb2_grpc.ClassifyServiceStub(channel)
        headers = (("authorization", f"Bearer {await server.key(Role.ADMIN)}"),)
        options = classify_pb2.ClassifyOptions(model="fake", no_cache=True)
        request = classify_pb2.ClassifyRequest(image=PICTURE, options=options)

        async def call():
            try:
                await stub.Classify(request, metadata=headers)
            except grpc.aio.AioRpcError as error:
                return error
            return None

        errors = [error for error in await asyncio.gather(*(call() for _ in range(40))) if error]
        assert 0 < len(errors) <= 36
        assert {error.code() for error in errors} == {grpc.StatusCode.UNAVAILABLE}
        assert dict(errors[0].trailing_metadata())["retry-after"] == "1"
        assert await call() is None
        async with await server.client() as client:
            # The client's own retries carry most of a burst through.
            results = await asyncio.gather(
                *(client.classify_image(PICTURE, model="fake") for _ in range(12)),
                return_exceptions=True,
            )
        assert all(not isinstance(r, Exception) or isinstance(r, Overloaded) for r in results)


async def test_cancelled_calls_free_their_place_in_the_queue(server):
    async with await server.client() as client:
        calls = [asyncio.create_task(client.classify_image(PICTURE)) for _ in range(30)]
        await elapsed(0.02)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        model = server.backend.registry.get("", None)
        await asyncio.wait_for(model.batcher.drained(), 5)
        assert (await client.classify_image(PICTURE)).predictions


async def test_cancelled_calls_leave_no_images_in_memory(settings):
    """While the model is busy, 100 callers of 1 MB leave one after the other; 2 MB may wait."""
    update = {
        "test": TestSettings(fake_model="6000,0,raw"),
        "inference": settings.inference.model_copy(
            update={"max_queued_bytes": 2 * 2**20, "runners": 1}
        ),
    }
    async with (
        running_server(settings.model_copy(update=update)) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        classify = classify_pb2_grpc.ClassifyServiceStub(channel).Classify
        metadata = (("authorization", f"Bearer {await server.key(Role.CLASSIFIER)}"),)
        options = classify_pb2.ClassifyOptions(model="fake")
        small = classify_pb2.ClassifyRequest(image=b"small", options=options)
        large = classify_pb2.ClassifyRequest(image=bytes(2**20), options=options)
        batcher = server.backend.registry.get("fake", None).batcher
        busy = classify(small, metadata=metadata)
        await eventually(lambda: batcher.longest_busy_s() > 0)
        with watching_memory(server=psutil.Process()) as watch:
            for _ in range(100):
                call = classify(large, metadata=metadata)
                await eventually(lambda: batcher.depth == 2, interval_s=0.001)
                call.cancel()
                await eventually(lambda: batcher.depth == 1, interval_s=0.001)
        assert (await busy).predictions
    assert watch.grown_mb("server") < 50


async def readiness(address):
    async with grpc.aio.insecure_channel(address) as channel:
        stub = our_health_pb2_grpc.HealthServiceStub(channel)
        assert (await stub.GetLiveness(our_health_pb2.GetLivenessRequest())).live
        try:
            return list((await stub.GetReadiness(our_health_pb2.GetReadinessRequest())).degraded)
        except grpc.aio.AioRpcError as error:
            return error.details()


async def test_before_the_models_are_loaded_the_server_lives_but_is_not_ready(settings):
    async with running_server(settings, load=False) as server:
        assert await readiness(server.address) == "the models are being loaded"
        async with await server.client(timeout_s=1) as client:
            with pytest.raises((ModelNotFound, ModelLoading)):
                await client.classify_image(PICTURE)


async def test_a_draining_server_is_not_ready_and_then_refuses(server):
    server.backend.draining.set()
    assert await readiness(server.address) == "the server is stopping"
    async with await server.client() as client:
        assert (await client.classify_image(PICTURE)).predictions
        server.backend.refusing.set()
        with pytest.raises(Unavailable):
            await client.classify_image(PICTURE)


async def test_a_lost_redis_degrades_and_nothing_more(server, stores):
    await stores.redis.stop()
    try:
        assert await readiness(server.address) == ["redis"]
        async with await server.client() as client:
            assert (await client.classify_image(PICTURE)).predictions
    finally:
        await stores.redis.start()
    assert await readiness(server.address) == []


async def test_a_lost_database_makes_not_ready_and_comes_back(server, stores):
    async with await server.client() as known, await server.client(timeout_s=5) as unknown:
        await known.classify_image(PICTURE)
        await stores.postgres.stop()
        try:
            assert await readiness(server.address) == "the database does not answer"
            with pytest.raises(DependencyDown):
                await unknown.classify_image(PICTURE)
        finally:
            await stores.postgres.start()
        assert await readiness(server.address) == []
        assert (await unknown.classify_image(PICTURE)).predictions


@pytest.fixture
async def login(stores):
    """Runs SQL that changes the login of the database's user, on a connection that stays open."""
    connection = await connect_as_owner(stores.postgres.url)
    yield connection.execute
    await connection.execute("ALTER ROLE image_categorizer LOGIN")
    await connection.close()


async def test_a_changed_login_makes_not_ready_though_open_connections_still_work(server, login):
    async with await server.client() as client:
        assert (await client.classify_image(PICTURE)).predictions
        await login("ALTER ROLE image_categorizer NOLOGIN")
        assert await readiness(server.address) == "the database does not answer"
        assert (await client.classify_image(PICTURE)).predictions
        await login("ALTER ROLE image_categorizer LOGIN")
        assert await readiness(server.address) == []


async def broken():
    raise RuntimeError("broken")


async def test_a_dead_background_task_makes_not_ready(server):
    server.backend.tasks.start(broken(), "model watcher")

    async def is_not_ready():
        return await readiness(server.address) == "the model watcher stopped working"

    await eventually(is_not_ready)


async def test_health_by_grpc(server):
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def outcome_of(channel, method):
    """Calls an RPC with an empty message and no credentials."""
    kind = f"{'stream' if method.client_streaming else 'unary'}_" + (
        "stream" if method.server_streaming else "unary"
    )
    path = f"/{method.containing_service.full_name}/{method.name}"
    rpc = getattr(channel, kind)(path, bytes, bytes)
    call = rpc(iter([b""])) if method.client_streaming else rpc(b"")
    return await call.code()


async def test_every_rpc_is_served_and_asks_for_credentials(server):
    methods = [method for service in our_services() for method in service.methods]
    async with grpc.aio.insecure_channel(server.address) as channel:
        codes = {m.name: await outcome_of(channel, m) for m in methods}
    public = {"GetLiveness", "GetReadiness", "StartSignIn", "FinishSignIn", "SignOut"}
    public |= {"GetDashboard", "GetPage", "ListReceiptKeys"}
    assert codes["ListReceiptKeys"] is grpc.StatusCode.OK
    assert codes["GetLiveness"] is codes["GetReadiness"] is codes["SignOut"] is grpc.StatusCode.OK
    others = {code for name, code in codes.items() if name not in public}
    assert others == {grpc.StatusCode.UNAUTHENTICATED}


async def test_reflection_is_off_unless_asked_for(settings):
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    async def services(address):
        async with grpc.aio.insecure_channel(address) as channel:
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            request = reflection_pb2.ServerReflectionRequest(list_services="")
            async for answer in stub.ServerReflectionInfo(iter([request])):
                return {service.name for service in answer.list_services_response.service}
        return set()

    async with running_server(settings, load=False) as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await services(server.address)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    shown = settings.model_copy(
        update={"server": settings.server.model_copy(update={"reflection": True})}
    )
    async with running_server(shown, load=False) as server:
        assert "image_categorizer.v1.ClassifyService" in await services(server.address)
