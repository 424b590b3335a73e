"""Traffic for load tests, and the outcome of every call."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

import grpc
import numpy as np
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from image_categorizer.v1 import classify_pb2, classify_pb2_grpc
from image_categorizer_server.bench.load import without_collector

from tests.support.pictures import jpeg
from tests.support.polling import elapsed
from tests.support.up import Up

CONNECTIONS = 4
SMALL = [jpeg(96, 72, seed=seed, quality=80) for seed in range(8)]
"""JPEGs of about 3 kB: creating and sending them must not slow down the server."""
OK = "OK"

Detail = TypeVar("Detail", bound=Message)


@dataclass(slots=True)
class Answer:
    """The outcome of one call."""

    asked_s: float
    """By `time.monotonic`."""
    seconds: float
    code: str
    timeout_s: float | None
    details: bytes = b""
    """`grpc-status-details-bin`."""

    @property
    def answered_s(self) -> float:
        return self.asked_s + self.seconds

    @property
    def reason(self) -> str:
        return str(self._detail(error_details_pb2.ErrorInfo()).reason)

    @property
    def retry_s(self) -> float:
        """The delay in `RetryInfo`; 0 if there is none."""
        return float(
            self._detail(error_details_pb2.RetryInfo()).retry_delay.ToTimedelta().total_seconds()
        )

    def _detail(self, wanted: Detail) -> Detail:
        for packed in status_pb2.Status.FromString(self.details).details:
            if packed.Unpack(wanted):
                break
        return wanted


class Caller:
    """Calls one server over gRPC, on several connections."""

    def __init__(self, channels: list[grpc.aio.Channel], key: str, model: str) -> None:
        stubs = [classify_pb2_grpc.ClassifyServiceStub(channel) for channel in channels]
        self._stubs = itertools.cycle(stubs)
        self._headers = (("authorization", f"Bearer {key}"),)
        self._options = classify_pb2.ClassifyOptions(model=model, no_cache=True)
        self._contents = itertools.cycle(SMALL)

    async def ask(self, timeout_s: float | None = 20, content: bytes | None = None) -> Answer:
        """Classifies one image. Returns errors of the server instead of raising them."""
        image = next(self._contents) if content is None else content
        request = classify_pb2.ClassifyRequest(image=image, options=self._options)
        asked_s, code, details = time.monotonic(), OK, b""
        try:
            await next(self._stubs).Classify(request, metadata=self._headers, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            code = error.code().name
            trailers = dict(error.trailing_metadata() or ())
            details = bytes(trailers.get("grpc-status-details-bin", b""))
        return Answer(asked_s, time.monotonic() - asked_s, code, timeout_s, details)

    async def stream(self, seconds: float) -> list[float]:
        """Sends images in lane BATCH as fast as the server reads them, then cancels the call.

        Returns the time of each successful answer, by `time.monotonic`.
        """
        config = classify_pb2.ClassifyStreamConfig(
            options=self._options, lane=classify_pb2.ClassifyStreamConfig.BATCH
        )

        async def messages() -> AsyncIterator[classify_pb2.ClassifyStreamRequest]:
            yield classify_pb2.ClassifyStreamRequest(config=config)
            for number in itertools.count():
                item = classify_pb2.ClassifyStreamItem(key=str(number), image=next(self._contents))
                yield classify_pb2.ClassifyStreamRequest(item=item)

        call = next(self._stubs).ClassifyStream(messages(), metadata=self._headers)
        answers_s: list[float] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                async for answer in call:
                    if answer.HasField("response"):
                        answers_s.append(time.monotonic())  # noqa: PERF401 - kept at timeout
        call.cancel()
        return answers_s


@asynccontextmanager
async def calling(running: Up, model: str = "fake") -> AsyncIterator[Caller]:
    """Yields a caller of the server itself, on its socket behind Envoy."""
    key = running.shown_key()
    assert key
    async with connected(f"unix:{running.data}/run/server.sock", key, model) as caller:
        yield caller


@asynccontextmanager
async def connected(address: str, key: str, model: str = "fake") -> AsyncIterator[Caller]:
    """Yields a caller with connections of its own, which no garbage collection interrupts."""
    async with AsyncExitStack() as stack:
        stack.enter_context(without_collector())
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(address, options))
            for _ in range(CONNECTIONS)
        ]
        yield Caller(channels, key, model)


Ask = Callable[[], Coroutine[None, None, Answer]]


async def closed_loop(ask: Ask, clients: int, seconds: float) -> list[Answer]:
    """Each client sends a request, waits for the answer, and sends the next."""
    end_s = time.monotonic() + seconds

    async def client() -> list[Answer]:
        answers = []
        while time.monotonic() < end_s:
            answers.append(await ask())
        return answers

    return [
        a for answers in await asyncio.gather(*(client() for _ in range(clients))) for a in answers
    ]


async def open_loop(ask: Ask, rate: float, seconds: float, seed: int = 0) -> list[Answer]:
    """Sends requests at random times (Poisson), `rate` a second, without waiting for answers."""
    gaps = np.random.default_rng(seed).exponential(1 / rate, int(rate * seconds))
    start_s = time.monotonic()
    async with asyncio.TaskGroup() as group:
        tasks: list[asyncio.Task[Answer]] = []
        for at_s in start_s + gaps.cumsum():
            if (wait_s := at_s - time.monotonic()) > 0:
                await elapsed(wait_s)
            tasks.append(group.create_task(ask()))
    return [task.result() for task in tasks]


def percentile_ms(answers: Iterable[Answer], percent: float = 99) -> float:
    """Returns a percentile of the response times in ms; 0 without answers."""
    values = [answer.seconds * 1000 for answer in answers]
    return float(np.percentile(values, percent)) if values else 0.0


def good(answers: Iterable[Answer]) -> list[Answer]:
    """Returns the successful answers."""
    return [answer for answer in answers if answer.code == OK]
