"""ClassifyStream on a real server: answers, refusals, bounds, cancelling, draining."""

import asyncio
import time
from collections import Counter
from dataclasses import replace
from itertools import count

import grpc
import pytest
from google.rpc import error_details_pb2
from image_categorizer import (
    AsyncImageCategorizationClient,
    CredentialsInvalid,
    DeadlineExceeded,
    Draining,
    InvalidRequest,
    RoleInsufficient,
    UndecodableImage,
)
from image_categorizer._statuses import from_rpc_error
from image_categorizer.v1 import classify_pb2, classify_pb2_grpc
from image_categorizer_server.domain.access import Role
from image_categorizer_server.errors import Overloaded

from tests.integration.conftest import collected, running_server
from tests.support.keys import revoke_keys
from tests.support.pictures import jpeg
from tests.support.polling import elapsed, eventually

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


def classifying(kind, *arguments):
    """Returns what makes a backend classify by `kind(its own classifications, *arguments)`."""
    return lambda backend: replace(
        backend, classifications=kind(backend.classifications, *arguments)
    )


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
        single = await client.classify_image(PICTURE, no_cache=True)
        (streamed,) = [r async for r in client.classify_stream([("a", PICTURE)], no_cache=True)]
    assert [p.category for p in streamed.predictions] == [p.category for p in single.predictions]
    assert streamed.confidence == pytest.approx(single.confidence, abs=1e-4)


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
        with pytest.raises(UndecodableImage) as caught:
            await client.classify_image(b"no image")
    assert (status.code, status.message, info.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT.value[0],
        caught.value.message,
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
        await revoke_keys()
        with pytest.raises(CredentialsInvalid):
            await collected(results, [])


async def test_a_stream_refused_while_it_sends_says_why_at_once(server, caplog):
    count_of_calls = 30
    async with await server.client(Role.WORKER) as client:
        # In about one call of six the refusal arrives while a message is on its way.
        for _ in range(count_of_calls):
            endless = (("a", PICTURE) for _ in count())
            with pytest.raises(InvalidRequest) as caught:
                await collected(client.classify_stream(endless, tenant_id="t" * 65), [])
            assert [field for field, _ in caught.value.violations] == ["config.tenant_id"]
    lines = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    assert [line["event"] for line in lines].count("refused") == count_of_calls


class Watched:
    """Counts how many images are classified at once."""

    def __init__(self, inner):
        self._inner = inner
        self._in_flight = 0
        self.maximum = 0

    async def classify(self, content, options, caller, origin):
        self._in_flight += 1
        self.maximum = max(self.maximum, self._in_flight)
        try:
            return await self._inner.classify(content, options, caller, origin)
        finally:
            self._in_flight -= 1


@pytest.mark.parametrize(
    "limits", [{"max_stream_in_flight": 4}, {"max_stream_in_flight_bytes": 2_000_000}]
)
async def test_no_more_are_read_than_may_be_unanswered(settings, limits):
    async with (
        running_server(with_limit(settings, **limits), change=classifying(Watched)) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        call = await opened(server, channel)
        await call.write(config())

        async def send():
            image = PICTURE + bytes(500_000)  # so that few fill the windows of HTTP/2
            for number in range(100):
                await call.write(item(f"k{number}", image))
            await call.done_writing()

        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            await elapsed(2)  # nobody reads the answers: small, they all fit into a window
            answers = [answer.key async for answer in call]
        maximum = server.backend.classifications.maximum
    assert len(set(answers)) == len(answers) == 100
    assert maximum <= 4


class Endless:
    """Never answers."""

    def __init__(self, inner, started, cancelled):
        self._started = started
        self._cancelled = cancelled

    async def classify(self, content, options, caller, origin):
        self._started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self._cancelled.set()


async def test_cancelling_the_call_cancels_its_items(settings):
    started, cancelled = asyncio.Event(), asyncio.Event()
    async with (
        running_server(settings, change=classifying(Endless, started, cancelled)) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        call = await opened(server, channel)
        await call.write(config())
        await call.write(item("a"))
        await asyncio.wait_for(started.wait(), 5)
        call.cancel()
        await asyncio.wait_for(cancelled.wait(), 2)


class Slow:
    """Takes five seconds for the image `slow`."""

    def __init__(self, inner):
        self._inner = inner

    async def classify(self, content, options, caller, origin):
        if content == b"slow":
            await elapsed(5)
        return await self._inner.classify(content, options, caller, origin)


async def test_an_item_has_a_deadline_and_the_call_has_none(settings):
    quick = with_limit(settings, default_deadline_s=0.3)
    async with (
        running_server(quick, change=classifying(Slow)) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        call = await opened(server, channel)
        await call.write(config())
        await elapsed(0.5)
        await call.write(item("slow", b"slow"))
        assert (await call.read()).status.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
        await call.write(item("quick"))
        assert (await call.read()).response.success
        call.cancel()


def unfinished(*names):
    """Returns which of these coroutines still run, in this process."""
    running = {getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()}
    return running & set(names)


READ, ANSWER = "ItemStream._read_all", "ItemStream._answer"


async def test_nothing_is_left_of_a_call_that_is_cancelled_when_no_more_may_be_read(settings):
    one = with_limit(settings, max_stream_in_flight=1)
    async with (
        running_server(one, change=classifying(Slow)) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        call = await opened(server, channel)
        await call.write(config())
        await call.write(item("slow", b"slow"))
        await eventually(lambda: unfinished(READ, ANSWER) == {READ, ANSWER})
        call.cancel()
        await eventually(lambda: not unfinished(READ, ANSWER))


class Drawing:
    """Answers with heat maps of a megabyte."""

    def __init__(self, inner):
        self._inner = inner

    async def classify(self, content, options, caller, origin):
        answer = await self._inner.classify(content, options, caller, origin)
        return replace(answer, heat_map=b"\0" * 2**20)


async def test_the_call_of_a_client_that_takes_no_answers_is_ended(settings):
    short = with_limit(settings, send_timeout_s=0.5)
    async with (
        running_server(short, change=classifying(Drawing)) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        call = await opened(server, channel)
        await call.write(config())
        for number in range(60):
            await call.write(item(f"k{number}"))
        await eventually(lambda: unfinished(ANSWER))
        await eventually(lambda: not unfinished(ANSWER))
        answers = []
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await collected(call, answers)
        assert isinstance(from_rpc_error(caught.value), DeadlineExceeded)
        assert 0 < len(answers) < 60
        await eventually(lambda: not unfinished(READ))


class Busy:
    """Refuses the first three images, and always the image `never`."""

    def __init__(self, inner):
        self._inner = inner
        self.refusals = 0

    async def classify(self, content, options, caller, origin):
        if self.refusals < 3 or content == b"never":
            self.refusals += 1
            raise Overloaded("full", retry_after_s=0.1)
        return await self._inner.classify(content, options, caller, origin)


async def test_bulk_waits_where_others_are_refused(settings):
    short = with_limit(settings, default_deadline_s=3)
    async with (
        running_server(short, change=classifying(Busy)) as server,
        await server.client() as client,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        (bulk,) = [r async for r in client.classify_stream([("a", PICTURE)])]
        assert (bulk.error, server.backend.classifications.refusals) == (None, 3)
        codes = {}
        for lane in (Config.INTERACTIVE, Config.BATCH):
            call = await opened(server, channel)
            await call.write(config(lane=lane))
            await call.write(item("a", b"never"))
            start_s = time.monotonic()
            codes[lane] = (await call.read()).status.code, time.monotonic() - start_s
            call.cancel()
    unavailable = grpc.StatusCode.UNAVAILABLE.value[0]
    assert [code for code, _ in codes.values()] == [unavailable] * 2
    assert codes[Config.INTERACTIVE][1] < 1 < 2.5 < codes[Config.BATCH][1]


class Faulty:
    """Has a bug."""

    def __init__(self, inner):
        pass

    async def classify(self, content, options, caller, origin):
        raise ValueError("embedded null byte")


async def test_a_bug_fails_each_item_and_never_hangs_the_call(settings):
    async with (
        running_server(settings, change=classifying(Faulty)) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        call = await opened(server, channel)
        await call.write(config())
        await call.write(item("a"))
        await call.write(item("b"))
        await call.done_writing()
        async with asyncio.timeout(10):
            answers = {answer.key: answer.status async for answer in call}
    assert set(answers) == {"a", "b"}
    assert {status.code for status in answers.values()} == {grpc.StatusCode.INTERNAL.value[0]}
    assert "null byte" not in answers["a"].message


@pytest.mark.parametrize(
    ("options", "image", "key"),
    [
        ({}, PICTURE, "a\0b"),
        ({}, b"\0" * 10, "a"),
        ({"model": "star\0ter"}, PICTURE, "a"),
        ({"include_categories": ["c\0at"]}, PICTURE, "a"),
    ],
)
async def test_nul_answers_the_item_and_never_hangs_the_call(call, options, image, key):
    await call.write(config(options=options))
    await call.write(item(key, image))
    await call.done_writing()
    async with asyncio.timeout(10):
        (answer,) = [answer async for answer in call]
    assert answer.key == key
    assert answer.WhichOneof("outcome") == ("response" if "\0" in key else "status")
    assert answer.status.code != grpc.StatusCode.INTERNAL.value[0]


async def test_a_stopping_server_answers_what_it_has_read_and_ends_the_call(server, call):
    await call.write(config())
    await call.write(item("a", jpeg(3000, 2000)))
    await elapsed(0.02)
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
