"""Traffic for load tests: what became of every call, and what it cost the processes."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

import grpc
import numpy as np
import psutil
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from image_categorizer.v1 import classify_pb2, classify_pb2_grpc

from tests.support.pictures import jpeg
from tests.support.polling import elapsed
from tests.support.up import Up

CONNECTIONS = 4
SMALL = [jpeg(96, 72, seed=seed, quality=80) for seed in range(8)]
"""JPEGs of about 3 kB: their making and sending must not take the cores from the server."""
MEGABYTE = 1_000_000
OK = "OK"

Detail = TypeVar("Detail", bound=Message)


@dataclass(slots=True)
class Answer:
    """What became of one call."""

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
        """What `RetryInfo` says; 0 where there is none."""
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
        """Asks for one image; never raises for what the server says."""
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
        """Sends images in lane BATCH as fast as the server reads them, then leaves.

        Returns when each good answer came, by `time.monotonic`.
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
                        answers_s.append(time.monotonic())  # noqa: PERF401 - restarts at timeout
        call.cancel()
        return answers_s


@asynccontextmanager
async def calling(running: Up, model: str = "fake") -> AsyncIterator[Caller]:
    """Yields a caller of the server itself, on its socket behind Envoy."""
    address = f"unix:{running.data}/run/server.sock"
    key = running.shown_key()
    assert key
    async with AsyncExitStack() as stack:
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(address, options))
            for _ in range(CONNECTIONS)
        ]
        yield Caller(channels, key, model)


Ask = Callable[[], Coroutine[None, None, Answer]]


async def closed_loop(ask: Ask, clients: int, seconds: float) -> list[Answer]:
    """Lets each client ask, wait and ask again."""
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
    """Asks at random times (Poisson), `rate` a second on average, whatever the answers are."""
    gaps = np.random.default_rng(seed).exponential(1 / rate, int(rate * seconds))
    tasks: list[asyncio.Task[Answer]] = []
    start_s = time.monotonic()
    for at_s in start_s + gaps.cumsum():
        if (wait_s := at_s - time.monotonic()) > 0:
            await elapsed(wait_s)
        tasks.append(asyncio.create_task(ask()))
    return list(await asyncio.gather(*tasks))


def percentile_ms(answers: Iterable[Answer], percent: float = 99) -> float:
    """Returns the percentile of how long the answers took; 0 where there are none."""
    values = [answer.seconds * 1000 for answer in answers]
    return float(np.percentile(values, percent)) if values else 0.0


def good(answers: Iterable[Answer]) -> list[Answer]:
    """Returns the answers that are no errors."""
    return [answer for answer in answers if answer.code == OK]


@dataclass
class Watch:
    """The memory of some processes while a block runs."""

    processes: dict[str, psutil.Process]
    base: dict[str, int] = field(default_factory=dict)
    most: dict[str, int] = field(default_factory=dict)

    def grown_mb(self, name: str) -> float:
        """Returns how much more a process held at most than at the start."""
        return (self.most[name] - self.base[name]) / MEGABYTE

    def look(self) -> None:
        for name, process in self.processes.items():
            size = process.memory_info().rss
            self.base.setdefault(name, size)
            self.most[name] = max(size, self.most.get(name, 0))


@asynccontextmanager
async def watching(**processes: psutil.Process) -> AsyncIterator[Watch]:
    """Looks at the memory of processes, 10 times a second."""
    watch = Watch(processes)
    watch.look()

    async def keep_looking() -> None:
        while True:
            await elapsed(0.1)
            watch.look()

    looking = asyncio.create_task(keep_looking())
    try:
        yield watch
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
