"""Clients that send the next request as soon as they have an answer.

They share the cores with what they measure. Requests are encoded once per picture, the garbage
collector is off while they run, and `http2` speaks gRPC. No request uses the result cache, because
the same few pictures are sent over and over.
"""

import asyncio
import base64
import gc
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cache

from image_categorizer import AsyncImageCategorizationClient
from image_categorizer.v1 import classify_pb2

from image_categorizer_server.bench.http2 import Connection, connected, message
from image_categorizer_server.errors import OperatorError

Ask = Callable[[bytes], Awaitable[int]]
"""Classifies one picture. Returns the size of its micro-batch."""
Encode = Callable[[bytes], bytes]
"""Turns a picture into a complete request."""
Read = Callable[[bytes], int]
"""Returns the size of the micro-batch from the body of an answer; 0 if unknown."""
CpuSeconds = Callable[[], float]
"""Returns the core-seconds that the server has used so far."""
# Maximum time for the last answers.
LAST_ANSWERS_S = 60.0
CLASSIFY = "/image_categorizer.v1.ClassifyService/Classify"
# Sets the size of a batch: it takes as long as a round of the other ways, and much longer than the
# last chunk, which keeps a single worker busy.
BATCH_IMAGES_PER_S = 250


@dataclass
class Sample:
    """Measurements of one time window."""

    seconds: float
    times_ms: list[float] = field(default_factory=list)
    batch_sizes: list[int] = field(default_factory=list)
    cpu_s: float = 0.0
    """Core-seconds used by the server."""

    @property
    def images_per_s(self) -> float:
        """Answers per second."""
        return len(self.times_ms) / self.seconds

    @property
    def cpu_ms_per_image(self) -> float:
        """Core-milliseconds of the server per answer."""
        return self.cpu_s * 1000 / len(self.times_ms)


async def drive(
    asks: list[Ask],
    contents: Iterator[bytes],
    seconds: float,
    warm_up_s: float,
    cpu_s: CpuSeconds = lambda: 0.0,
) -> Sample:
    """Keeps all clients busy, and measures the answers within a time window.

    Clients start before the window and continue until it ends. This excludes the first answers,
    which all clients wait for at once, and the last ones, when cores become idle.

    Args:
        asks: the clients.
        contents: pictures to classify.
        seconds: length of the window.
        warm_up_s: how long the clients run before the window.
        cpu_s: core-seconds used by the server.

    Raises:
        RuntimeError: the server refused a request.
        ConnectionError: the server closed a connection.
        TimeoutError: a client got no answer.
    """
    sample = Sample(seconds)
    start_s = time.perf_counter() + warm_up_s
    end_s = start_s + seconds

    async def client(ask: Ask) -> None:
        while (asked_s := time.perf_counter()) < end_s:
            batch_size = await ask(next(contents))
            if start_s <= (answered_s := time.perf_counter()) < end_s:
                sample.batch_sizes.append(batch_size)
                sample.times_ms.append((answered_s - asked_s) * 1000)

    with without_collector():
        asking = asyncio.gather(*map(client, asks))
        try:
            await asyncio.wait({asking}, timeout=warm_up_s)
            before_s = cpu_s()
            await asyncio.wait({asking}, timeout=end_s - time.perf_counter())
            sample.cpu_s = cpu_s() - before_s
            async with asyncio.timeout(LAST_ANSWERS_S):
                await asking
        finally:
            asking.cancel()
    return sample


@contextmanager
def without_collector() -> Iterator[None]:
    """Disables the garbage collector, which would traverse all objects of torch."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def endless(contents: list[bytes]) -> Iterator[bytes]:
    """Repeats the pictures forever."""
    return itertools.cycle(contents)


def encoder(model: str, version: str = "") -> Encode:
    """Returns a function that encodes a picture as a gRPC request. Caches each picture."""
    options = classify_pb2.ClassifyOptions(model=model, version=version, no_cache=True)

    @cache
    def encode(content: bytes) -> bytes:
        return classify_pb2.ClassifyRequest(image=content, options=options).SerializeToString()

    return encode


def authorization(key: str) -> tuple[tuple[str, str], ...]:
    """Returns the metadata of a call with an API key."""
    return (("authorization", f"Bearer {key}"),)


@asynccontextmanager
async def grpc_clients(
    address: str, key: str, model: str, count: int, *, version: str = "", connections: int = 1
) -> AsyncIterator[list[Ask]]:
    """Yields gRPC clients.

    Args:
        address: address of a server or a gateway.
        key: API key.
        model: name of the model.
        count: number of clients.
        version: version of the model; empty for the server's choice.
        connections: number of connections that the clients share. 1 is like the tasks of one
            program, `count` like separate programs.
    """
    headers, encode = authorization(key), encoder(model, version)
    framed = cache(lambda content: message(encode(content)))
    async with AsyncExitStack() as stack:
        asks = []
        for _ in range(connections):
            connection = await stack.enter_async_context(connected(address, CLASSIFY, headers))
            asks.append(_grpc_client(connection, framed))
        yield [asks[n % connections] for n in range(count)]


def _grpc_client(connection: Connection, framed: Encode) -> Ask:
    read = classify_pb2.ClassifyResponse.FromString

    async def ask(content: bytes) -> int:
        return read(await connection.call(framed(content))).timing.batch_size

    return ask


@asynccontextmanager
async def callers(address: str, key: str, path: str, count: int) -> AsyncIterator[list[Ask]]:
    """Yields gRPC clients that send empty requests to a cheap method: what is left is the edge.

    Args:
        address: address of a server.
        key: API key.
        path: `/package.Service/Method`.
        count: number of clients.
    """
    empty = message(b"")
    async with connected(address, path, authorization(key)) as connection:

        async def ask(_content: bytes) -> int:
            await connection.call(empty)
            return 0

        yield [ask] * count


@asynccontextmanager
async def rest_clients(
    address: str, key: str, model: str, count: int, *, as_json: bool
) -> AsyncIterator[list[Ask]]:
    """Yields REST clients with one keep-alive connection each."""
    path = "/v1/classify" if as_json else f"/v1/classify?model={model}&no_cache=true"
    media_type = "application/json" if as_json else "image/jpeg"

    @cache
    def encode(content: bytes) -> bytes:
        body = content
        if as_json:
            options = {"model": model, "no_cache": True}
            image = base64.b64encode(content).decode()
            body = json.dumps({"image": image, "options": options}).encode()
        return http_request(path, media_type, body, f"authorization: Bearer {key}\r\n")

    def read(body: bytes) -> int:
        return int(json.loads(body)["timing"]["batch_size"])

    async with http_clients(address, count, encode, read) as asks:
        yield asks


def http_request(path: str, media_type: str, body: bytes, headers: str = "") -> bytes:
    """Returns an HTTP/1.1 POST request. Each of the extra headers ends with CRLF."""
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\n{headers}content-type: {media_type}\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


@asynccontextmanager
async def http_clients(
    address: str, count: int, encode: Encode, read: Read
) -> AsyncIterator[list[Ask]]:
    """Yields HTTP/1.1 clients with one keep-alive connection each."""
    host, port = address.split(":")
    async with AsyncExitStack() as stack:
        asks = []
        for _ in range(count):
            reader, writer = await asyncio.open_connection(host, int(port))
            stack.callback(writer.close)
            asks.append(_http_client(reader, writer, encode, read))
        yield asks


def _http_client(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, encode: Encode, read: Read
) -> Ask:
    async def ask(content: bytes) -> int:
        writer.write(encode(content))
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        answer = await reader.readexactly(length)
        if " 200 " not in head.split("\r\n")[0]:
            raise RuntimeError(f"refused: {answer[:500]!r}")
        return read(answer)

    return ask


async def batch_speed(
    client: AsyncImageCategorizationClient, model: str, contents: Sequence[bytes], seconds: float
) -> float:
    """Runs a batch that takes about `seconds`. Returns its images per second, without the upload.

    Raises:
        OperatorError: an image failed.
    """
    count = round(seconds * BATCH_IMAGES_PER_S)
    pictures = itertools.islice(itertools.cycle(contents), count)
    sources = [(f"{number}.jpg", content) for number, content in enumerate(pictures)]
    batch = await client.batches.submit(sources, model=model, no_cache=True)
    async for current in client.batches.watch(batch.batch_id):
        batch = current
    if batch.succeeded_count != count or not batch.start_time or not batch.end_time:
        raise OperatorError(f"The batch failed: {batch}.")
    return count / (batch.end_time - batch.start_time).total_seconds()
