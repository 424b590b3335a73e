"""Limits of the gateway: the largest image, concurrent uploads, streams on one connection."""

import asyncio
import base64
from contextlib import suppress

import grpc
import httpx
import pytest
from image_categorizer.v1 import classify_pb2, classify_pb2_grpc

from tests.support.memory import MEGABYTE, watching_memory
from tests.support.pictures import encoded, jpeg, scene
from tests.support.traffic import SMALL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
LIMIT_BYTES = 10 * 2**20
UPLOADS = 50
STREAMS = 200
# Envoy buffers whole bodies. For JSON it holds the body, its text and its bytes at once.
GATEWAY_COPIES = {"bytes": 3, "JSON": 8}
SERVER_COPIES = 4


def padded(size_bytes):
    """Returns a photograph of exactly that size, uncompressed."""
    content = encoded(scene(1900, 1800), "BMP")
    assert len(content) <= size_bytes
    return content + bytes(size_bytes - len(content))


def bodies(content):
    """Returns each way to send an image over REST."""
    return {
        "bytes": {"content": content},
        "form": {"files": {"image": content}},
        "JSON": {"json": {"image": base64.b64encode(content).decode()}},
    }


def called(running, content):
    """Returns the status and the predictions of an image that is sent by gRPC through Envoy."""
    headers = [("authorization", f"Bearer {running.shown_key()}")]
    with grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel:
        stub = classify_pb2_grpc.ClassifyServiceStub(channel)
        request = classify_pb2.ClassifyRequest(image=content, options={"no_cache": True})
        try:
            answer = stub.Classify(request, metadata=headers, timeout=30)
        except grpc.RpcError as error:
            return error.code().name, []
        return "OK", [(p.category, p.confidence) for p in answer.predictions]


def client_of(running):
    headers = {"authorization": f"Bearer {running.shown_key()}"}
    limits = httpx.Limits(max_connections=UPLOADS)
    return httpx.AsyncClient(base_url=running.url, headers=headers, timeout=60, limits=limits)


async def test_every_way_accepts_the_largest_image_and_refuses_one_byte_more(installation):
    running = installation()
    largest, too_large = padded(LIMIT_BYTES), padded(LIMIT_BYTES + 1)
    code, expected = await asyncio.to_thread(called, running, largest)
    assert (code, len(expected)) == ("OK", 5)
    async with client_of(running) as client:
        for way, body in bodies(largest).items():
            answer = await client.post("/v1/classify", **body)
            assert answer.status_code == 200, (way, answer.text)
            found = [(p["category"], p["confidence"]) for p in answer.json()["predictions"]]
            assert [name for name, _ in found] == [name for name, _ in expected], way
            assert [c for _, c in found] == pytest.approx([c for _, c in expected], abs=1e-5), way
        for way, body in bodies(too_large).items():
            answer = await client.post("/v1/classify", **body)
            assert answer.status_code in (400, 413), (way, answer.text)
            assert answer.json()["details"][0]["reason"] == "IMAGE_TOO_LARGE", way
        for body in bodies(bytes(4 * LIMIT_BYTES)).values():
            with suppress(httpx.ReadError, httpx.WriteError):  # it closes the connection
                answer = await client.post("/v1/classify", **body)
                assert answer.status_code == 413, answer.text
    assert (await asyncio.to_thread(called, running, too_large))[0] == "INVALID_ARGUMENT"
    assert (await asyncio.to_thread(called, running, bytes(4 * LIMIT_BYTES)))[0] == (
        "RESOURCE_EXHAUSTED"
    )


@pytest.mark.parametrize("way", ["bytes", "JSON"])
async def test_the_memory_of_concurrent_uploads_is_bounded(installation, way):
    running = installation()
    body = bodies(padded(LIMIT_BYTES))[way]
    async with client_of(running) as client:
        await client.post("/v1/classify?no_cache=true", **bodies(jpeg())["bytes"])
        parts = {"gateway": running.process_of("gateway"), "server": running.process_of("server")}
        with watching_memory(**parts) as watch:
            requests = (client.post("/v1/classify", **body) for _ in range(UPLOADS))
            answers = await asyncio.gather(*requests)
        again = await client.post("/v1/classify", **bodies(jpeg())["bytes"])
    codes = [answer.status_code for answer in answers]
    grown = {name: round(watch.grown_mb(name)) for name in parts}
    print(f"\n{UPLOADS} x 10 MB, {way}: { ({c: codes.count(c) for c in set(codes)}) }, MB: {grown}")
    assert set(codes) <= {200, 503}  # never 500 or 429
    assert codes.count(200) >= UPLOADS / 5
    assert all(a.headers.get("retry-after") for a in answers if a.status_code == 503)
    assert again.status_code == 200
    content_mb = UPLOADS * LIMIT_BYTES / MEGABYTE
    assert grown["gateway"] <= GATEWAY_COPIES[way] * content_mb
    assert grown["server"] <= SERVER_COPIES * content_mb


async def test_many_streams_on_one_connection_are_all_answered(installation):
    running = installation()
    headers = (("authorization", f"Bearer {running.shown_key()}"),)

    def messages(number):
        yield classify_pb2.ClassifyStreamRequest(config={})
        item = {"key": str(number), "image": SMALL[number % len(SMALL)]}
        yield classify_pb2.ClassifyStreamRequest(item=item)

    async with grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel:
        stub = classify_pb2_grpc.ClassifyServiceStub(channel)

        async def stream(number):
            call = stub.ClassifyStream(messages(number), metadata=headers, timeout=60)
            return [(answer.key, answer.WhichOneof("outcome")) async for answer in call]

        answers = await asyncio.gather(*map(stream, range(STREAMS)))
    assert answers == [[(str(number), "response")] for number in range(STREAMS)]
