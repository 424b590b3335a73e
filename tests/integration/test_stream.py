"""ClassifyStream on a real server: answers, refusals, bounds, cancelling, draining; the clients."""

import asyncio
import threading
import time
from collections import Counter
from itertools import count

import grpc
import pytest
from google.rpc import error_details_pb2
from image_categorizer import (
    CredentialsInvalid,
    Draining,
    ImageCategorizationClient,
    ImageTooLarge,
    InvalidRequest,
    ModelNotFound,
    RoleInsufficient,
    UndecodableImage,
)
from image_categorizer.errors import from_rpc_error
from image_categorizer.v1 import classify_pb2, classify_pb2_grpc
from image_categorizer_server import admin
from image_categorizer_server.domain import Role
from image_categorizer_server.errors import Overloaded

from tests.integration.conftest import running_server
from tests.pictures import jpeg

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


async def collected(results, into):
    async for result in results:
        into.append(result.key)


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
    async with await server.client() as client:
        client._headers = (("authorization", "Bearer ic_wrong"),)
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
        stub = classify_pb2_grpc.ClassifyServiceStub(client._channel)
        codes = {}
        for lane in (Config.INTERACTIVE, Config.BATCH):
            call = stub.ClassifyStream(metadata=client._headers)
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


async def test_the_sdk_goes_on_where_a_server_stopped(settings):
    got = Counter()
    async with running_server(settings) as first:
        client = await first.client()
        results = client.classify_stream(
            [("bad", b"no image"), *((f"k{n}", PICTURE) for n in range(400))]
        )
        async for result in results:
            got[result.key] += 1
            if sum(got.values()) == 50:
                break
        first.backend.refusing.set()
        await asyncio.sleep(0.5)
    async with running_server(settings):
        async for result in results:
            got[result.key] += 1
    await client.close()
    assert len(got) == sum(got.values()) == 401


@pytest.fixture
def files(tmp_path):
    """A folder with two images, one of them below; a text, one named as an image."""
    (tmp_path / "below").mkdir()
    (tmp_path / "a.jpg").write_bytes(PICTURE)
    (tmp_path / "below" / "b.JPEG").write_bytes(PICTURE)
    (tmp_path / "broken.png").write_bytes(b"no image")
    (tmp_path / "notes.txt").write_text("hello")
    return tmp_path


async def test_a_folder_is_classified_by_either_client(server, files):
    key = await server.key(Role.CLASSIFIER)
    heard = []

    def ordinary():
        with ImageCategorizationClient(key, server.address) as client:
            found = client.classify_dir(files, on_progress=lambda *of: heard.append(of), top_k=2)
            results = {r.filename: r for r in found}
            flat = [r.filename for r in client.classify_dir(files, "*.jpg", recursive=False)]
            with pytest.raises(NotADirectoryError):
                client.classify_dir(files / "a.jpg")
        return results, flat

    results, flat = await asyncio.to_thread(ordinary)
    async with await server.client() as client:
        awaited = {r.filename: r async for r in client.classify_dir(files, top_k=2)}
    names = {str(files / name) for name in ("a.jpg", "below/b.JPEG", "broken.png")}
    assert set(results) == set(awaited) == names
    assert flat == [str(files / "a.jpg")]
    assert heard == [(1, 3), (2, 3), (3, 3)]
    for found in (results, awaited):
        assert isinstance(found[str(files / "broken.png")].error, UndecodableImage)
        good = found[str(files / "a.jpg")]
        assert (good.error, len(good.predictions)) == (None, 2)
        assert good.category == good.classification.category


async def test_unreadable_and_too_large_files_are_failed_results(server, files):
    sources = [files / "a.jpg", files / "missing.jpg", ("large", bytes((10 << 20) + 1)), str(files)]
    key = await server.key(Role.CLASSIFIER)

    def ordinary():
        with ImageCategorizationClient(key, server.address) as client:
            return {r.key: r.error for r in client.classify_stream(sources)}

    async with await server.client() as client:
        awaited = {r.key: r.error async for r in client.classify_stream(sources)}
    for errors in (awaited, await asyncio.to_thread(ordinary)):
        assert errors[str(files / "a.jpg")] is None
        assert isinstance(errors[str(files / "missing.jpg")], FileNotFoundError)
        assert isinstance(errors["large"], ImageTooLarge)
        assert isinstance(errors[str(files)], IsADirectoryError)


async def test_sources_are_taken_no_faster_than_results(server):
    taken = 0

    async def endless():
        nonlocal taken
        while True:
            taken += 1
            yield f"{taken}", PICTURE

    async with await server.client() as client:
        results = client.classify_stream(endless())
        assert (await anext(results)).error is None
        await asyncio.sleep(1)
        assert taken <= 130
        await results.aclose()
    key = await server.key(Role.CLASSIFIER)
    numbers = count(1)

    def ordinary():
        with ImageCategorizationClient(key, server.address) as client:
            results = client.classify_stream((str(n), PICTURE) for n in numbers)
            next(results)
            threading.Event().wait(1)
            results.close()

    await asyncio.to_thread(ordinary)
    assert next(numbers) <= 131


@pytest.mark.parametrize("wrong", [7, ("key",), (b"key", b"bytes"), None])
async def test_what_the_sources_raise_comes_after_the_results(server, wrong):
    key = await server.key(Role.CLASSIFIER)

    sources = [("a", PICTURE), wrong]
    ordinary, awaited = [], []

    def ordinary_call():
        with ImageCategorizationClient(key, server.address) as client:
            ordinary.extend(r.key for r in client.classify_stream(sources))

    with pytest.raises((TypeError, ValueError)):
        await asyncio.to_thread(ordinary_call)
    async with await server.client() as client:
        with pytest.raises((TypeError, ValueError)):
            await collected(client.classify_stream(sources), awaited)
    assert ordinary == awaited == ["a"]


async def test_the_same_file_twice_has_two_results(server, files):
    async with await server.client() as client:
        results = [r.filename async for r in client.classify_stream([files / "a.jpg"] * 2)]
    assert results == [str(files / "a.jpg")] * 2


async def test_no_sources_have_no_results(server):
    async with await server.client() as client:
        assert [r async for r in client.classify_stream([])] == []


async def test_a_wrong_model_fails_each_image(server):
    async with await server.client() as client:
        (result,) = [r async for r in client.classify_stream([("a", PICTURE)], model="nope")]
    assert isinstance(result.error, ModelNotFound)
    assert result.error.request_id
