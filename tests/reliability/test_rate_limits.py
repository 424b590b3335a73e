"""One limit over three servers: exact under a flood, whatever clocks and Redis do (A5)."""

import asyncio
import itertools
import signal
import time
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from image_categorizer.v1 import metadata_pb2, metadata_pb2_grpc
from image_categorizer_server.rpc.probe import is_ready
from redis.asyncio import Redis

from tests.support.cluster import READY_S, SERVER, Cluster
from tests.support.polling import elapsed, eventually

SERVERS, CLIENTS = 3, 10
PER_S, BURST = 10, 20  # 100 in 10 s
FLOOD_PER_S = 10 * PER_S
QUOTA = {
    "CATEGORIZER_QUOTA__REQUESTS_PER_S": str(PER_S),
    "CATEGORIZER_QUOTA__REQUEST_BURST": str(BURST),
    "CATEGORIZER_QUOTA__EXPECTED_SERVERS": str(SERVERS),
    # A busy machine must not look as if Redis were down.
    "CATEGORIZER_QUOTA__TIMEOUT_S": "3",
}
SLOW = [pytest.mark.slow, pytest.mark.timeout(180)]
DURATIONS_S = [pytest.param(seconds, marks=SLOW) for seconds in (8.0, 60.0)]
FLUSH, SKEW = "SCRIPT FLUSH", "skewed clocks"


@dataclass
class Flood:
    """Clients that call all servers, and what they are answered."""

    calls: list[Any]
    """One for each server."""
    headers: tuple[tuple[str, str], ...]
    codes: Counter[grpc.StatusCode] = field(default_factory=Counter)
    allowed_s: list[float] = field(default_factory=list)
    """When calls succeeded, by `time.monotonic`."""

    async def call(self, server: int) -> float | None:
        """Makes a call. Returns None if it succeeds, the delay before a retry if not."""
        try:
            await self.calls[server](metadata_pb2.GetServerInfoRequest(), metadata=self.headers)
        except grpc.aio.AioRpcError as error:
            self.codes[error.code()] += 1
            return retry_s(error)
        self.codes[grpc.StatusCode.OK] += 1
        self.allowed_s.append(time.monotonic())
        return None

    async def run(self, seconds: float) -> float:
        """Floods the servers, whatever they answer. Returns how many seconds it took."""
        start_s = time.monotonic()

        async def client(number: int) -> None:
            for turn in itertools.count():
                due_s = start_s + (turn * CLIENTS + number) / FLOOD_PER_S
                if due_s > start_s + seconds:
                    return
                await elapsed(max(0.0, due_s - time.monotonic()))
                await self.call((turn + number) % SERVERS)

        await asyncio.gather(*map(client, range(CLIENTS)))
        return time.monotonic() - start_s


def retry_s(error) -> float:
    packed = dict(error.trailing_metadata()).get("grpc-status-details-bin", b"")
    for detail in status_pb2.Status.FromString(packed).details:
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(retry):
            return float(retry.retry_delay.ToTimedelta().total_seconds())
    return 0.0


@asynccontextmanager
async def flooding(cluster: Cluster, clocks=(0, 0, 0)):
    """Runs three servers, whose clocks differ from the system's by so many seconds."""
    async with Redis.from_url(cluster.redis.url) as redis:
        await redis.flushall()
    addresses = [f"unix:{cluster.sockets}/server-{number}.sock" for number in range(SERVERS)]
    for address, offset_s in zip(addresses, clocks, strict=True):
        variables = {
            **QUOTA,
            "CATEGORIZER_SERVER__BIND": address,
            "CATEGORIZER_TEST__CLOCK_OFFSET_S": str(offset_s),
        }
        cluster.start(SERVER, "server", **variables)

    async def are_ready() -> bool:
        return all([await is_ready(address) for address in addresses])

    await eventually(are_ready, READY_S, 0.1)
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(address))
            for address in addresses
        ]
        calls = [metadata_pb2_grpc.MetadataServiceStub(c).GetServerInfo for c in channels]
        headers = (("authorization", f"Bearer {cluster.api_key}"),)
        warm = Flood(calls, headers)
        for server in range(SERVERS):  # connects, and reads the key
            await warm.call(server)
        await elapsed(BURST / PER_S)
        yield Flood(calls, headers)


@pytest.mark.parametrize(
    ("seconds", "disturbances"),
    [
        (8.0, {SKEW, FLUSH}),
        *(pytest.param(60.0, each, marks=SLOW) for each in (set(), {SKEW}, {FLUSH})),
    ],
)
async def test_three_servers_allow_exactly_what_one_would(cluster, seconds, disturbances):
    clocks = (-5, 0, 5) if SKEW in disturbances else (0, 0, 0)
    async with flooding(cluster, clocks) as flood, Redis.from_url(cluster.redis.url) as redis:

        async def disturb() -> None:
            for _ in range(5 if FLUSH in disturbances else 0):
                await elapsed(seconds / 6)
                await redis.script_flush()

        lasted_s, _ = await asyncio.gather(flood.run(seconds), disturb())
    allowed, expected = flood.codes[grpc.StatusCode.OK], PER_S * lasted_s + BURST
    print(f"{disturbances}: {allowed} of {flood.codes.total()} allowed, {expected:.0f} expected")
    assert 0.98 * expected <= allowed <= 1.01 * expected
    assert set(flood.codes) == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}


@pytest.mark.parametrize("seconds", DURATIONS_S)
async def test_whoever_waits_as_long_as_asked_is_answered(cluster, seconds):
    async with flooding(cluster) as flood:
        end_s = time.monotonic() + seconds
        outcomes: list[bool] = []

        async def obedient(number: int) -> None:
            server = itertools.cycle(range(SERVERS))
            while time.monotonic() < end_s:
                wait_s = await flood.call((next(server) + number) % SERVERS)
                if wait_s is not None:
                    await elapsed(wait_s)
                    outcomes.append(await flood.call(next(server)) is None)

        await asyncio.gather(*map(obedient, range(CLIENTS)))
    print(f"{sum(outcomes)} of {len(outcomes)} retries succeeded")
    assert len(outcomes) > seconds * PER_S / 2
    assert outcomes.count(False) <= max(1, 0.01 * len(outcomes))


@pytest.mark.parametrize("seconds", DURATIONS_S)
async def test_while_redis_is_gone_the_servers_share_the_limit(cluster, seconds):
    """They hold the limit up to their bursts, and count together again within 5 s."""
    down_s, back_s = seconds / 3, seconds * 2 / 3
    async with flooding(cluster) as flood:
        start_s = time.monotonic()

        async def fail() -> None:
            await elapsed(down_s)
            await cluster.stop_redis(signal.SIGKILL)
            await elapsed(back_s - down_s)
            await cluster.start_redis()

        lasted_s, _ = await asyncio.gather(flood.run(seconds + 5), fail())
    times_s = [moment - start_s for moment in flood.allowed_s]
    during = sum(down_s < moment < back_s for moment in times_s)
    after = sum(back_s + 5 < moment for moment in times_s)
    print(f"{during} allowed in {back_s - down_s:.0f} s without Redis, {dict(flood.codes)}")
    share = PER_S * (back_s - down_s)
    assert 0.9 * share <= during <= 1.05 * share + BURST
    # A Redis that starts empty allows one more burst.
    assert len(times_s) <= 1.01 * (PER_S * lasted_s + 3 * BURST)
    assert after <= 1.05 * PER_S * (lasted_s - back_s - 5) + BURST
    assert set(flood.codes) == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
