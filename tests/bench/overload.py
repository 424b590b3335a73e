"""Overload: requests arrive at random (Poisson) without waiting for answers.

The rate is a multiple of the server's capacity. Latency counts from when a request was due, not
from when it was sent. Otherwise a load generator that falls behind would hide it (Tene, "How NOT to
Measure Latency").
"""

import asyncio
import os
import statistics
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass

import grpc
import numpy as np
from image_categorizer_server.bench.load import (
    CLASSIFY,
    authorization,
    drive,
    encoder,
    endless,
    grpc_clients,
    without_collector,
)

from tests.support.polling import elapsed

Call = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
CONNECTIONS = 4
CAPACITY_CLIENTS = 48
DEADLINE_S = 2.0
# At the start, the queue fills. Goodput counts after that.
FILL_S = 1.0
PAUSE_S = 1.0


@dataclass(frozen=True)
class Level:
    """The outcome at one multiple of the capacity."""

    name: str
    factor: float
    capacity_per_s: float
    asked_per_s: float
    goodput_of_capacity: float
    accepted_p50_ms: float | None
    accepted_p99_ms: float | None
    refused_p50_ms: float | None
    refused_p99_ms: float | None
    codes: dict[str, int]
    generator_cores: float
    goodput_of_rest: float | None
    """Share of the capacity of the cores that the load generator leaves; None if the model uses
    none."""


@dataclass(frozen=True)
class Target:
    """The gateway or server to overload."""

    name: str
    address: str
    key: str
    model: str
    uses_cores: bool
    """Whether the model uses all cores, which the load generator shares."""


@dataclass(frozen=True)
class Capacity:
    """What clients get that wait for each answer."""

    images_per_s: float
    generator_cores: float


@dataclass(frozen=True)
class Answer:
    """The outcome of one request."""

    code: str
    due_s: float
    """Since the start."""
    time_ms: float
    """Since the request was due."""


@dataclass(frozen=True)
class Answers:
    """The outcome of all requests at one rate."""

    answers: list[Answer]
    seconds: float
    """Duration of the arrivals."""
    generator_cores: float


async def overload(
    target: Target, contents: list[bytes], factors: tuple[float, ...], seconds: float
) -> list[Level]:
    """Returns a level for each factor. Measures the capacity before each."""
    levels = []
    for number, factor in enumerate(factors):
        limit = await capacity(target, contents, seconds / 2)
        await elapsed(PAUSE_S)
        rate = factor * limit.images_per_s
        due_s = np.random.default_rng(number).exponential(1 / rate, int(rate * seconds))
        answers = await _send(target, contents, due_s.cumsum().tolist())
        await elapsed(PAUSE_S + DEADLINE_S)
        levels.append(level_of(target, factor, limit, answers))
    return levels


async def capacity(target: Target, contents: list[bytes], seconds: float) -> Capacity:
    """Measures the capacity."""
    async with grpc_clients(target.address, target.key, target.model, CAPACITY_CLIENTS) as asks:
        cpu_s, start_s = time.process_time(), time.perf_counter()
        sample = await drive(asks, endless(contents), seconds, FILL_S)
        cores = (time.process_time() - cpu_s) / (time.perf_counter() - start_s)
    return Capacity(sample.images_per_s, cores)


async def _send(target: Target, contents: list[bytes], due_s: list[float]) -> Answers:
    """Sends a request at each of the times."""
    answers: list[Answer] = []
    encode, headers, pictures = encoder(target.model), authorization(target.key), endless(contents)
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with AsyncExitStack() as stack:
        calls = []
        for _ in range(CONNECTIONS):
            channel = grpc.aio.insecure_channel(target.address, options)
            call: Call = (await stack.enter_async_context(channel)).unary_unary(CLASSIFY)
            await call(encode(contents[0]), metadata=headers)
            calls.append(call)

        async def ask(number: int, at_s: float) -> None:
            code = "OK"
            try:
                call = calls[number % CONNECTIONS]
                await call(encode(next(pictures)), metadata=headers, timeout=DEADLINE_S)
            except grpc.aio.AioRpcError as error:
                code = error.code().name
            answers.append(Answer(code, at_s, (time.perf_counter() - start_s - at_s) * 1000))

        with without_collector():
            cpu_s, start_s = time.process_time(), time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for number, at_s in enumerate(due_s):
                    if (wait_s := start_s + at_s - time.perf_counter()) > 0:
                        await elapsed(wait_s)
                    elif number % 16 == 0:
                        await asyncio.sleep(0)
                    group.create_task(ask(number, at_s))
                asked_s = time.perf_counter() - start_s
            cores = (time.process_time() - cpu_s) / asked_s
    return Answers(answers, asked_s, cores)


def level_of(target: Target, factor: float, limit: Capacity, sent: Answers) -> Level:
    """Returns the figures of one level."""
    good = [answer for answer in sent.answers if answer.code == "OK"]
    refused = [answer.time_ms for answer in sent.answers if answer.code == "UNAVAILABLE"]
    in_time = [
        answer
        for answer in good
        if FILL_S <= answer.due_s + answer.time_ms / 1000 < sent.seconds
        and answer.time_ms <= DEADLINE_S * 1000
    ]
    accepted_p50_ms, accepted_p99_ms = _percentiles([answer.time_ms for answer in good])
    refused_p50_ms, refused_p99_ms = _percentiles(refused)
    goodput = len(in_time) / (sent.seconds - FILL_S) / limit.images_per_s
    cores = len(os.sched_getaffinity(0))
    left = (cores - sent.generator_cores) / (cores - limit.generator_cores)
    return Level(
        name=target.name,
        factor=factor,
        capacity_per_s=round(limit.images_per_s, 1),
        asked_per_s=round(len(sent.answers) / sent.seconds, 1),
        goodput_of_capacity=round(goodput, 3),
        accepted_p50_ms=accepted_p50_ms,
        accepted_p99_ms=accepted_p99_ms,
        refused_p50_ms=refused_p50_ms,
        refused_p99_ms=refused_p99_ms,
        codes=dict(Counter(answer.code for answer in sent.answers)),
        generator_cores=round(sent.generator_cores, 2),
        goodput_of_rest=round(goodput / left, 3) if target.uses_cores else None,
    )


def _percentiles(times_ms: list[float]) -> tuple[float | None, float | None]:
    if len(times_ms) < 2:
        return None, None
    percentiles = statistics.quantiles(times_ms, n=100, method="inclusive")
    return round(percentiles[49], 1), round(percentiles[98], 1)
