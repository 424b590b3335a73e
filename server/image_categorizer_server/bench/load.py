"""Clients that ask as fast as they are answered, and cost as little as they can themselves."""

import asyncio
import base64
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import grpc
from image_categorizer.v1 import classify_pb2, classify_pb2_grpc

Ask = Callable[[bytes], Awaitable[int]]
"""Classifies one picture; returns the size of its micro-batch."""


@dataclass
class Sample:
    """What one round measured."""

    seconds: float = 0.0
    times_ms: list[float] = field(default_factory=list)
    batch_sizes: list[int] = field(default_factory=list)


async def drive(asks: list[Ask], contents: Iterator[bytes], seconds: float) -> Sample:
    """Lets each client ask, wait and ask again for `seconds`."""
    sample = Sample()
    start_s = time.perf_counter()

    async def client(ask: Ask) -> None:
        while (asked_s := time.perf_counter()) - start_s < seconds:
            sample.batch_sizes.append(await ask(next(contents)))
            sample.times_ms.append((time.perf_counter() - asked_s) * 1000)

    await asyncio.gather(*map(client, asks))
    sample.seconds = time.perf_counter() - start_s
    return sample


@asynccontextmanager
async def grpc_clients(address: str, key: str, model: str, count: int) -> AsyncIterator[list[Ask]]:
    """Yields clients that share one channel and the generated stub, as a program's tasks would."""
    headers = (("authorization", f"Bearer {key}"),)
    options = classify_pb2.ClassifyOptions(model=model)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = classify_pb2_grpc.ClassifyServiceStub(channel)

        async def ask(content: bytes) -> int:
            request = classify_pb2.ClassifyRequest(image=content, options=options)
            return (await stub.Classify(request, metadata=headers)).timing.batch_size

        yield [ask] * count


@asynccontextmanager
async def rest_clients(
    address: str, key: str, model: str, count: int, *, as_json: bool
) -> AsyncIterator[list[Ask]]:
    """Yields clients with a kept-alive HTTP/1.1 connection each."""
    host, port = address.split(":")
    async with AsyncExitStack() as stack:
        asks = []
        for _ in range(count):
            reader, writer = await asyncio.open_connection(host, int(port))
            stack.callback(writer.close)
            asks.append(_asking(reader, writer, key, model, as_json))
        yield asks


def _asking(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str, model: str, as_json: bool
) -> Ask:
    path = "/v1/classify" if as_json else f"/v1/classify?model={model}"
    kind = "application/json" if as_json else "image/jpeg"
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: {kind}"

    async def ask(content: bytes) -> int:
        body = content
        if as_json:
            image = base64.b64encode(content).decode()
            body = json.dumps({"image": image, "options": {"model": model}}).encode()
        writer.write(f"{head}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        answer_head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(answer_head.split("content-length: ")[1].split("\r\n")[0])
        answer = json.loads(await reader.readexactly(length))
        if " 200 " not in answer_head.split("\r\n")[0]:
            raise RuntimeError(f"refused: {answer}")
        return int(answer["timing"]["batch_size"])

    return ask


def endless(contents: list[bytes]) -> Iterator[bytes]:
    """Returns the pictures over and over."""
    return itertools.cycle(contents)
