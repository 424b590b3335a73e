"""ClassifyStream on a real server: answers, refusals, bounds, cancelling, draining."""

import asyncio
import time
from collections import Counter
from itertools import count

import grpc
import pytest
from google.rpc import error_details_pb2
from image_categorizer import (
    AsyncImageCategorizationClient,
    CredentialsInvalid,
    Draining,
    InvalidRequest,
    RoleInsufficient,
    UndecodableImage,
)
from image_categorizer._statuses import from_rpc_error
from image_categorizer.v1 import classify_pb2, classify_pb2_grpc
from image_categorizer_server.domain.access import Role
from image_categorizer_server.errors import Overloaded
from image_categorizer_server.services import key as admin

from tests.integration.conftest import collected, running_server
from tests.support.pictures import jpeg

PICTURE = jpeg(64, 48)
Request = classify_pb2.ClassifyStreamRequest
Config = classify_pb2.ClassifyStreamConfig


def config(**fields):
    return Request(config=Config(**fields))


def item(key, image=PICTURE):
    return Request(item=classify_pb2.ClassifyStreamItem(key=key, image=image))


async def opened(server, channel, role=Role.CLASSIFIER):
    stub = classify_pb2_grpc.ClassifyServiceStub(channel)
    headers = (("authorization", f"Bearer {await server.key(role)}"), ("x-request-id", "mine"))
    return stub.ClassifyStream(metadata=headers)


@pytest.fixture
async def call(server):
    """A call by plain gRPC."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield await opened(server, channel)


def with_limit(settings, **fields):
    return settings.model_copy(update={"server": settings.server.model_copy(update=fields)})


async def test_each_item_is_answered_once_by_its_key(call):
    await call.write(config(lane=Config.BATCH))
    for number in range(200):
        await call.write(item(f"k{number}"))
    await call.done_writing()
    answers = [answer async for answer in call]
    assert Counter(a.key for a in answers) == Counter(f"k{n}" for n in range(200))
    assert all(a.response.predictions for a in answers)
    assert {a.response.request_id for a in answers} == {"mine"}
    assert await call.code() is grpc.StatusCode.OK


async def test_a_stream_gives_the_answer_that_classify_gives(server):
    async with await server.client() as client:
        alone = await client.classify_image(PICTURE, no_cache=True)
        (streamed,) = [r async for r in client.classify_stream([("a", PICTURE)], no_cache=True)]
    assert [p.category for p in streamed.predictions] == [p.category for p in alone.predictions]
    assert streamed.confidence == pytest.approx(alone.confidence, abs=1e-4)


async def test_a_failed_item_has_the_status_of_its_own_and_the_call_goes_on(call, server):
    await call.write(config())
    await call.write(item("bad", b"no image"))
    await call.write(item("good"))
    await call.done_writing()
    answers = {answer.key: answer async for answer in call}
    assert answers["good"].response.success
    status = answers["bad"].status
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    async with await server.client() as client:
        with pytest.raises(UndecodableImage) as alone:
            await client.classify_image(b"no image")
    assert (status.code, status.message, info.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT.value[0],
        alone.value.message,
        "IMAGE_UNDECODABLE",
    )


async def test_a_key_may_be_used_again_once_it_is_answered(call):
    await call.write(config())
    for _ in range(3):
        await call.write(item("again"))
        assert (await call.read()).response.success
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "config"),
        ([item("a")], "config"),
        ([Request()], "config"),
        ([config(lane=9)], "config.lane"),
        ([config(options={"top_k": 0})], "config.options.top_k"),
        ([config(), config()], "item"),
        ([config(), item("")], "item.key"),
        ([config(), item("k" * 257)], "item.key"),
        ([config(), item("a", jpeg(4000, 3000)), item("a")], "item.key"),
    ],
)
async def test_a_call_out_of_form_is_ended_and_the_field_named(call, messages, field):
    for message in messages:
        await call.write(message)
    await call.done_writing()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in call:
            pass
    error = from_rpc_error(caught.value)
    assert isinstance(error, InvalidRequest)
    assert [name for name, _ in error.violations] == [field]
    assert error.request_id == "mine"


async def test_roles_and_keys_are_asked_for(server):
    async with await server.client(Role.VIEWER) as client:
        with pytest.raises(RoleInsufficient):
            [r async for r in client.classify_stream([("a", PICTURE)])]
    async with AsyncImageCategorizationClient("ic_wrong", server.address) as client:
        with pytest.raises(CredentialsInvalid):
            [r async for r in client.classify_stream([("a", PICTURE)])]


async def test_a_key_revoked_while_the_stream_lasts_ends_it(server):
    async with await server.client() as client:
        results = client.classify_stream(("a", PICTURE) for _ in count())
        await anext(results)
        for key in await admin.list_keys():
            if key.revoke_time is None:
                await admin.revoke_key(key.key_id)
        with pytest.raises(CredentialsInvalid):
            await collected(results, [])


@pytest.mark.parametrize(
    "limits", [{"max_stream_in_flight": 4}, {"max_stream_in_flight_bytes": 2_000_000}]
)
async def test_no_more_are_read_than_may_be_unanswered(settings, limits):
    async with (
        running_server(with_limit(settings, **limits)) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        call = await opened(server, channel)
        in_flight, most = 0, 0
        classify = server.backend.classifications.classify

        async def watched(*arguments):
            nonlocal in_flight, most
            in_flight += 1
            most = max(most, in_flight)
            try:
                return await classify(*arguments)
            finally:
                in_flight -= 1

        server.backend.classifications.classify = watched
        await call.write(config())
        sent = 0

        async def send():
            nonlocal sent
            image = PICTURE + bytes(500_000)  # so that few fill the windows of HTTP/2
            for sent in range(1, 101):
                await call.write(item(f"k{sent}", image))
            await call.done_writing()

        sending = asyncio.create_task(send())
        await asyncio.sleep(2)  # nobody reads the answers: small, they all fit into a window
        answers = [answer.key async for answer in call]
        await sending
    assert len(set(answers)) == len(answers) == 100
    assert most <= 4


async def test_cancelling_the_call_cancels_its_items(server, call):
    cancelled = asyncio.Event()

    async def never(*arguments):
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    server.backend.classifications.classify = never
    await call.write(config())
    await call.write(item("a"))
    await asyncio.sleep(0.1)
    call.cancel()
    await asyncio.wait_for(cancelled.wait(), 2)


async def test_an_item_has_a_deadline_and_the_call_has_none(settings):
    async with (
        running_server(with_limit(settings, default_deadline_s=0.3)) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        call = await opened(server, channel)
        classify = server.backend.classifications.classify

        async def slow(content, options, caller):
            await asyncio.sleep(5 if content == b"slow" else 0)
            return await classify(content, options, caller)

        server.backend.classifications.classify = slow
        await call.write(config())
        await asyncio.sleep(0.5)
        await call.write(item("slow", b"slow"))
        assert (await call.read()).status.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
        await call.write(item("quick"))
        assert (await call.read()).response.success
        call.cancel()


async def test_bulk_waits_where_others_are_refused(settings):
    async with (
        running_server(with_limit(settings, default_deadline_s=3)) as server,
        await server.client() as client,
    ):
        classify = server.backend.classifications.classify
        refusals = 0

        async def busy(content, options, caller):
            nonlocal refusals
            if refusals < 3 or content == b"never":
                refusals += 1
                raise Overloaded("full", retry_after_s=0.1)
            return await classify(content, options, caller)

        server.backend.classifications.classify = busy
        (bulk,) = [r async for r in client.classify_stream([("a", PICTURE)])]
        assert (bulk.error, refusals) == (None, 3)
        connection, codes = client._connection, {}
        for lane in (Config.INTERACTIVE, Config.BATCH):
            call = connection.stubs.classify.ClassifyStream(metadata=connection.headers)
            await call.write(config(lane=lane))
            await call.write(item("a", b"never"))
            start_s = time.monotonic()
            codes[lane] = (await call.read()).status.code, time.monotonic() - start_s
            call.cancel()
    unavailable = grpc.StatusCode.UNAVAILABLE.value[0]
    assert [code for code, _ in codes.values()] == [unavailable] * 2
    assert codes[Config.INTERACTIVE][1] < 1 < 2.5 < codes[Config.BATCH][1]


async def test_a_stopping_server_answers_what_it_has_read_and_ends_the_call(server, call):
    await call.write(config())
    await call.write(item("a", jpeg(3000, 2000)))
    await asyncio.sleep(0.02)
    server.backend.refusing.set()
    answers = []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await collected(call, answers)
    assert answers == ["a"]
    assert isinstance(from_rpc_error(caught.value), Draining)


async def test_a_silent_stream_does_not_hold_up_a_stopping_server(server, call):
    await call.initial_metadata()
    server.backend.refusing.set()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(call.read(), 2)
    assert isinstance(from_rpc_error(caught.value), Draining)
