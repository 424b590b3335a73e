"""The gRPC client of the load generator, with a real server."""

import asyncio
import itertools
from contextlib import AsyncExitStack

import pytest
from image_categorizer.v1 import classify_pb2
from image_categorizer_server.bench.http2 import connected, message
from image_categorizer_server.bench.load import CLASSIFY, authorization, drive, grpc_clients
from image_categorizer_server.domain.access import Role

from tests.integration.conftest import running_server
from tests.support.pictures import jpeg

PICTURE = jpeg(64, 48)
LARGE_BYTES = 3_000_000


def framed(image: bytes) -> bytes:
    """Returns a request for the image."""
    return message(classify_pb2.ClassifyRequest(image=image).SerializeToString())


async def test_it_gets_the_same_answers_as_other_clients(server):
    key = await server.key(Role.CLASSIFIER)
    async with (
        await server.client() as client,
        connected(server.address, CLASSIFY, authorization(key)) as connection,
    ):
        expected = await client.classify_image(PICTURE)
        answers = await asyncio.gather(*(connection.call(framed(PICTURE)) for _ in range(50)))
    for answer in answers:
        best = classify_pb2.ClassifyResponse.FromString(answer).predictions[0]
        assert (best.category, best.confidence) == (expected.category, expected.confidence)


async def test_a_message_larger_than_the_windows_arrives_complete(server):
    key = await server.key(Role.CLASSIFIER)
    large = PICTURE + bytes(LARGE_BYTES)  # decoders ignore bytes after the end of a JPEG
    async with connected(server.address, CLASSIFY, authorization(key)) as connection:
        answers = await asyncio.gather(*(connection.call(framed(large)) for _ in range(3)))
    assert all(classify_pb2.ClassifyResponse.FromString(answer).success for answer in answers)


@pytest.mark.parametrize(("key", "image"), [("ic_wrong", PICTURE), (None, b"not an image")])
async def test_a_refusal_is_an_error(server, key, image):
    key = key or await server.key(Role.CLASSIFIER)
    async with connected(server.address, CLASSIFY, authorization(key)) as connection:
        with pytest.raises(RuntimeError, match="refused"):
            await connection.call(framed(image))


async def test_a_connection_that_the_server_closes_fails_the_calls(settings):
    async with AsyncExitStack() as stack:
        async with running_server(settings) as running:
            headers = authorization(await running.key(Role.CLASSIFIER))
            opening = connected(running.address, CLASSIFY, headers)
            connection = await stack.enter_async_context(opening)
            await connection.call(framed(PICTURE))
        with pytest.raises(ConnectionError):
            await connection.call(framed(PICTURE))


async def test_only_answers_within_the_window_count(server):
    key = await server.key(Role.CLASSIFIER)
    asked, clients, at_edges = itertools.count(), 4, []
    contents = (PICTURE for _ in asked)

    def used_s():
        at_edges.append(next(asked))
        return float(len(at_edges))

    async with grpc_clients(server.address, key, "", clients, connections=2) as asks:
        sample = await drive(asks, contents, 0.4, 0.4, used_s)
    begun, ended = at_edges
    assert begun > 2 * clients
    assert 0 < len(sample.times_ms) <= ended - begun + clients
    assert len(sample.batch_sizes) == len(sample.times_ms)
    assert sample.images_per_s == len(sample.times_ms) / 0.4
    assert sample.cpu_s == 1.0
