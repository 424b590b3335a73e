"""Streams to the server: every image gets an answer or an error."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict

import pytest
from image_categorizer import Classification, ModelRef, Result, Timing, Unavailable
from image_categorizer_server.domain.classification import ClassifyOptions
from image_categorizer_workers.streams import (
    CallFailed,
    Sent,
    ServerCrashed,
    StreamKind,
    StreamPool,
)

from tests.support.polling import eventually

OPTIONS = ClassifyOptions()


class Client:
    """Answers as the given function does, in place of the SDK's client."""

    def __init__(self, answer) -> None:
        self._answer = answer
        self.calls = 0
        self.blurred: list[tuple[str, ...]] = []

    async def classify_stream(self, sources, *, on_disconnect, **_options) -> AsyncIterator[Result]:
        self.calls += 1
        async for key, content, blur in sources:
            self.blurred.append(blur)
            yield self._answer(key, content, on_disconnect)


def result_of(key, content, on_disconnect) -> Result:
    timing = Timing(0, 0, 0, 1, "IDLE")
    model = ModelRef("m", "1", "")
    return Result(key, Classification("", (), model, timing, 0.0, ""), None)


async def test_the_server_gets_every_option_that_a_batch_may_have():
    asked = []

    class Asked(Client):
        def classify_stream(self, sources, *, on_disconnect, lane, tenant_id, key_id, **options):
            asked.append(options)
            return super().classify_stream(sources, on_disconnect=on_disconnect)

    given = ClassifyOptions(
        model="m",
        version=3,
        confidence_threshold=0.5,
        top_k=2,
        include_categories=("cat",),
        exclude_categories=("dog",),
        bounding_boxes=True,
        no_cache=True,
        roll_up=False,
        raw_confidence=True,
    )
    client = Asked(result_of)
    streams = StreamPool(client, idle_s=60, answer_timeout_s=60)
    await streams.classify(StreamKind("t", given), Sent(b"x", "a", ("0,0,8,8",)))
    await streams.close()
    assert client.blurred == [("0,0,8,8",)]
    expected = asdict(given) | {"version": "3"}
    del expected["explain"]  # no option of batches
    del expected["blur"]  # sent with each image
    assert asked == [expected]


async def test_images_of_one_kind_share_a_stream():
    client = Client(result_of)
    streams = StreamPool(client, idle_s=60, answer_timeout_s=60)
    await asyncio.gather(
        *(streams.classify(StreamKind("t", OPTIONS), Sent(b"x", "a")) for _ in range(5))
    )
    assert client.calls == 1
    await streams.classify(StreamKind("other", OPTIONS), Sent(b"x", "a"))
    await streams.classify_isolated(StreamKind("t", OPTIONS), Sent(b"x", "a"))
    assert client.calls == 3
    await streams.close()


async def test_a_call_that_fails_fails_everyone_who_waits():
    def refuse(key, content, on_disconnect):
        raise Unavailable("busy")

    streams = StreamPool(Client(refuse), idle_s=60, answer_timeout_s=60)
    answers = await asyncio.gather(
        *(streams.classify(StreamKind("t", OPTIONS), Sent(b"x", "a")) for _ in range(3)),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [CallFailed] * 3
    await streams.close()


async def test_a_bug_in_a_stream_reaches_everyone_who_waits():
    def fail(key, content, on_disconnect):
        raise ZeroDivisionError

    streams = StreamPool(Client(fail), idle_s=60, answer_timeout_s=60)
    for _ in range(2):  # the next image gets a new stream
        with pytest.raises(ZeroDivisionError):
            await streams.classify(StreamKind("t", OPTIONS), Sent(b"x", "a"))
    await streams.close()


async def test_a_broken_connection_is_a_crash_only_for_images_that_the_server_had():
    def break_off(key, content, on_disconnect):
        return on_disconnect([key])

    streams = StreamPool(Client(break_off), idle_s=60, answer_timeout_s=60)
    answers = await asyncio.gather(
        *(streams.classify(StreamKind("t", OPTIONS), Sent(b"x", "a")) for _ in range(2)),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [ServerCrashed, CallFailed]
    await streams.close()


class Silent:
    """Takes images and never answers."""

    def __init__(self) -> None:
        self.has_image = False

    async def classify_stream(self, sources, **_options) -> AsyncIterator[Result]:
        async for _ in sources:
            self.has_image = True
            await asyncio.Event().wait()
            yield result_of("", b"", None)


async def test_closing_fails_those_who_still_wait():
    client = Silent()
    streams = StreamPool(client, idle_s=60, answer_timeout_s=60)

    async def wait_for_an_answer():
        with pytest.raises(CallFailed):
            await streams.classify(StreamKind("t", OPTIONS), Sent(b"x", "a"))

    async with asyncio.TaskGroup() as group:
        group.create_task(wait_for_an_answer())
        await eventually(lambda: client.has_image)
        await streams.close()


async def test_a_server_that_does_not_answer_is_called_again():
    class Silent(Client):
        async def classify_stream(self, sources, **options):
            if self.calls:
                async for result in super().classify_stream(sources, **options):
                    yield result
            self.calls += 1
            async for _ in sources:
                pass

    client = Silent(result_of)
    streams = StreamPool(client, idle_s=60, answer_timeout_s=0.1)
    answers = await asyncio.gather(
        *(streams.classify(StreamKind("t", OPTIONS), Sent(b"x", "a")) for _ in range(3)),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [CallFailed] * 3
    assert isinstance(
        await streams.classify(StreamKind("t", OPTIONS), Sent(b"x", "a")), Classification
    )
    await streams.close()
