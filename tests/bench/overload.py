"""Overload: arrivals that do not wait for answers (Poisson), at multiples of the capacity.

Times count from when a question was due, not from when it was sent: a generator that falls behind
must not hide it (Tene, "How NOT to Measure Latency").
"""

import asyncio
import statistics
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

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

Call = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
CONNECTIONS = 4
CAPACITY_CLIENTS = 48
DEADLINE_S = 2.0
# The first moments fill the queue; goodput counts from then on.
SETTLE_S = 1.0
PAUSE_S = 1.0


@dataclass
class Level:
    """What became of arrivals at one multiple of the capacity."""

    name: str
    factor: float
    capacity_per_s: float
    asked_per_s: float = 0.0
    goodput_of_capacity: float = 0.0
    accepted_p50_ms: float | None = None
    accepted_p99_ms: float | None = None
    refused_p50_ms: float | None = None
    refused_p99_ms: float | None = None
    codes: dict[str, int] = field(default_factory=dict)
    generator_cores: float = 0.0


@dataclass(frozen=True)
class Target:
    """A server of ours."""

    name: str
    address: str
    key: str
    model: str


async def overload(
    target: Target, contents: list[bytes], factors: tuple[float, ...], seconds: float
) -> list[Level]:
    """Returns a level for each factor; the capacity is measured right before each."""
    levels = []
    for number, factor in enumerate(factors):
        capacity_per_s = await capacity(target, contents, seconds / 2)
        await asyncio.sleep(PAUSE_S)
        rate = factor * capacity_per_s
        level = Level(target.name, factor, round(capacity_per_s, 1))
        await _run_level(level, target, contents, rate, seconds, seed=number)
        await asyncio.sleep(PAUSE_S + DEADLINE_S)
        levels.append(level)
    return levels


async def capacity(target: Target, contents: list[bytes], seconds: float) -> float:
    """Returns images a second of a closed loop."""
    async with grpc_clients(target.address, target.key, target.model, CAPACITY_CLIENTS) as asks:
        sample = await drive(asks, endless(contents), seconds, SETTLE_S)
    return sample.images_per_s


async def _run_level(
    level: Level, target: Target, contents: list[bytes], rate: float, seconds: float, seed: int
) -> None:
    answers: list[tuple[str, float, float]] = []  # code, when due, ms; seconds since the start
    encode, headers, pictures = encoder(target.model), authorization(target.key), endless(contents)
    options = [("grpc.use_local_subchannel_pool", 1)]
    due_s = np.random.default_rng(seed).exponential(1 / rate, int(rate * seconds)).cumsum()
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
            answers.append((code, at_s, (time.perf_counter() - start_s - at_s) * 1000))

        with without_collector():
            cpu_s, start_s, tasks = time.process_time(), time.perf_counter(), set()
            for number, at_s in enumerate(due_s.tolist()):
                if (wait_s := start_s + at_s - time.perf_counter()) > 0:
                    await asyncio.sleep(wait_s)
                elif number % 16 == 0:
                    await asyncio.sleep(0)
                tasks.add(asyncio.create_task(ask(number, at_s)))
            asked_s = time.perf_counter() - start_s
            await asyncio.gather(*tasks)
            level.generator_cores = round((time.process_time() - cpu_s) / asked_s, 2)
    level.asked_per_s = round(len(due_s) / asked_s, 1)
    _fill(level, answers, asked_s)


def _fill(level: Level, answers: list[tuple[str, float, float]], asked_s: float) -> None:
    """Makes figures of the answers."""
    good = [(at_s, ms) for code, at_s, ms in answers if code == "OK"]
    refused = [ms for code, _, ms in answers if code == "UNAVAILABLE"]
    in_time = [
        at_s
        for at_s, ms in good
        if SETTLE_S <= at_s + ms / 1000 < asked_s and ms <= DEADLINE_S * 1000
    ]
    goodput_per_s = len(in_time) / (asked_s - SETTLE_S)
    level.goodput_of_capacity = round(goodput_per_s / level.capacity_per_s, 3)
    level.accepted_p50_ms, level.accepted_p99_ms = _percentiles([ms for _, ms in good])
    level.refused_p50_ms, level.refused_p99_ms = _percentiles(refused)
    level.codes = dict(Counter(code for code, _, _ in answers))


def _percentiles(times_ms: list[float]) -> tuple[float | None, float | None]:
    if len(times_ms) < 2:
        return None, None
    percentiles = statistics.quantiles(times_ms, n=100, method="inclusive")
    return round(percentiles[49], 1), round(percentiles[98], 1)
