"""Clients that ask as fast as they are answered, and cost as little as they can themselves.

They share the cores with what they measure, so requests are encoded once per picture, the garbage
collector rests while they run, and gRPC is spoken by `http2`.  Answers are never to come from the
result cache: the same few pictures are asked for over and over.
"""

import asyncio
import base64
import gc
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cache

from image_categorizer.v1 import classify_pb2

from image_categorizer_server.bench.http2 import Connection, connected, message

Ask = Callable[[bytes], Awaitable[int]]
"""Classifies one picture; returns the size of its micro-batch."""
Encode = Callable[[bytes], bytes]
"""Makes a picture a whole request."""
Read = Callable[[bytes], int]
"""Takes the size of the micro-batch from an answer's body; 0 where it does not say."""
CpuSeconds = Callable[[], float]
"""Returns the core-seconds that what is measured has used."""
# How long the last answers may take.
LAST_S = 60.0
CLASSIFY = "/image_categorizer.v1.ClassifyService/Classify"


@dataclass
class Sample:
    """What one window measured."""

    seconds: float
    times_ms: list[float] = field(default_factory=list)
    batch_sizes: list[int] = field(default_factory=list)
    cpu_s: float = 0.0
    """Core-seconds that the server used."""

    @property
    def images_per_s(self) -> float:
        """How many were answered a second."""
        return len(self.times_ms) / self.seconds

    @property
    def cpu_ms_per_image(self) -> float:
        """Core-milliseconds of the server for each answer."""
        return self.cpu_s * 1000 / len(self.times_ms)


async def drive(
    asks: list[Ask],
    contents: Iterator[bytes],
    seconds: float,
    warm_up_s: float,
    cpu_s: CpuSeconds = lambda: 0.0,
) -> Sample:
    """Lets each client ask, wait and ask again; returns what was answered in a window of time.

    Clients ask before the window begins and until it ends: neither the first answers count, for
    which all wait at once, nor the last ones, during which cores have nothing more to do.

    Args:
        asks: the clients.
        contents: what they ask about.
        seconds: length of the window.
        warm_up_s: how long clients ask before it begins.
        cpu_s: of the server.

    Raises:
        RuntimeError, ConnectionError: the server refused, or left.
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
        await asyncio.wait({asking}, timeout=warm_up_s)
        before_s = cpu_s()
        await asyncio.wait({asking}, timeout=end_s - time.perf_counter())
        sample.cpu_s = cpu_s() - before_s
        async with asyncio.timeout(LAST_S):
            await asking
    return sample


@contextmanager
def without_collector() -> Iterator[None]:
    """Rests the garbage collector, which would walk through all that torch brought, meanwhile."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def encoder(model: str, version: str = "") -> Encode:
    """Returns what makes a picture a gRPC request; each picture is encoded once."""
    options = classify_pb2.ClassifyOptions(model=model, version=version, no_cache=True)

    @cache
    def encode(content: bytes) -> bytes:
        return classify_pb2.ClassifyRequest(image=content, options=options).SerializeToString()

    return encode


def authorization(key: str) -> tuple[tuple[str, str], ...]:
    """Returns the metadata of a call with the key."""
    return (("authorization", f"Bearer {key}"),)


@asynccontextmanager
async def grpc_clients(
    address: str, key: str, model: str, count: int, *, version: str = "", connections: int = 1
) -> AsyncIterator[list[Ask]]:
    """Yields clients that share connections.

    Args:
        address: of a server or a gateway.
        key: an API key.
        model: its name.
        count: how many clients.
        version: of the model; empty for the one that the server would take.
        connections: one is what a program's tasks share; as many as clients, many programs.
    """
    headers, encode = authorization(key), encoder(model, version)
    framed = cache(lambda content: message(encode(content)))
    async with AsyncExitStack() as stack:
        asks = []
        for _ in range(connections):
            connection = await stack.enter_async_context(connected(address, CLASSIFY, headers))
            asks.append(_calling(connection, framed))
        yield [asks[n % connections] for n in range(count)]


def _calling(connection: Connection, framed: Encode) -> Ask:
    read = classify_pb2.ClassifyResponse.FromString

    async def ask(content: bytes) -> int:
        return read(await connection.call(framed(content))).timing.batch_size

    return ask


@asynccontextmanager
async def rest_clients(
    address: str, key: str, model: str, count: int, *, as_json: bool
) -> AsyncIterator[list[Ask]]:
    """Yields clients with a kept-alive HTTP/1.1 connection each."""
    path = "/v1/classify" if as_json else f"/v1/classify?model={model}&no_cache=true"
    kind = "application/json" if as_json else "image/jpeg"

    @cache
    def encode(content: bytes) -> bytes:
        body = content
        if as_json:
            options = {"model": model, "no_cache": True}
            image = base64.b64encode(content).decode()
            body = json.dumps({"image": image, "options": options}).encode()
        return http_request(path, kind, body, f"authorization: Bearer {key}\r\n")

    def read(body: bytes) -> int:
        return int(json.loads(body)["timing"]["batch_size"])

    async with http_clients(address, count, encode, read) as asks:
        yield asks


def http_request(path: str, kind: str, body: bytes, headers: str = "") -> bytes:
    """Returns a POST of the body; each of `headers` ends its line."""
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\n{headers}content-type: {kind}\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


@asynccontextmanager
async def http_clients(
    address: str, count: int, encode: Encode, read: Read
) -> AsyncIterator[list[Ask]]:
    """Yields clients with a kept-alive HTTP/1.1 connection each."""
    host, port = address.split(":")
    async with AsyncExitStack() as stack:
        asks = []
        for _ in range(count):
            reader, writer = await asyncio.open_connection(host, int(port))
            stack.callback(writer.close)
            asks.append(_asking(reader, writer, encode, read))
        yield asks


def _asking(
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


def endless(contents: list[bytes]) -> Iterator[bytes]:
    """Returns the pictures over and over."""
    return itertools.cycle(contents)
