"""PostgreSQL dies under load."""

import itertools
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import psutil
import pytest
from image_categorizer.v1 import batch_pb2, health_pb2, health_pb2_grpc
from image_categorizer_server.rpc.probe import is_ready
from image_categorizer_server.tasks import TaskOwner

from tests.support.cluster import Cluster
from tests.support.ledger import Ledger, pictures
from tests.support.polling import elapsed, eventually

ITEMS = 20
TIMES = "10,4"
UNWANTED = "CANCELLED", "INTERNAL", "UNKNOWN", "DEADLINE_EXCEEDED"


@dataclass
class Load:
    """Callers of the server, and the outcomes of their calls."""

    cluster: Cluster
    ledger: Ledger
    pause_s: float
    codes: Counter[str] = field(default_factory=Counter)
    slowest_refusal_s: float = 0.0
    slowest_s: float = 0.0
    failed_probes: int = 0

    async def submit(self) -> None:
        """Submits one batch after another. Repeats refused ones under the same request ID."""
        for seed in itertools.count():
            given = pictures(ITEMS, seed)
            while not await self._count(
                self.cluster.submit(self.ledger, given, request_id=f"r{seed}")
            ):
                await elapsed(0.2)
            await elapsed(self.pause_s)

    async def read(self) -> None:
        """Lists batches four times a second."""
        while True:
            await self._count(self.cluster.call("ListBatches", batch_pb2.ListBatchesRequest()))
            await elapsed(0.25)

    async def probe(self) -> None:
        """Probes liveness four times a second."""
        async with grpc.aio.insecure_channel(self.cluster.address) as channel:
            stub = health_pb2_grpc.HealthServiceStub(channel)
            while True:
                try:
                    await stub.GetLiveness(health_pb2.GetLivenessRequest(), timeout=2)
                except grpc.aio.AioRpcError:
                    self.failed_probes += 1
                await elapsed(0.25)

    async def _count(self, call) -> bool:
        start_s, code = time.monotonic(), "OK"
        try:
            await call
        except grpc.aio.AioRpcError as error:
            code = error.code().name
            refused_s = time.monotonic() - start_s
            self.slowest_refusal_s = max(self.slowest_refusal_s, refused_s)
        self.slowest_s = max(self.slowest_s, time.monotonic() - start_s)
        self.codes[code] += 1
        return code == "OK"


@asynccontextmanager
async def under_load(cluster: Cluster, ledger: Ledger, pause_s: float) -> AsyncIterator[Load]:
    load = Load(cluster, ledger, pause_s)
    async with TaskOwner() as tasks:
        for work in (load.submit, load.read, load.probe):
            tasks.start(work(), work.__name__)
        yield load
        tasks.check()


async def lose_postgres(cluster: Cluster, down_s: float) -> tuple[float, float]:
    """Kills PostgreSQL and starts it again.

    Returns the seconds until the server noticed, and until work went on after the start.
    """

    async def is_serving() -> bool:
        return await is_ready(cluster.address)

    async def is_not_serving() -> bool:
        return not await is_serving()

    await cluster.stop_postgres(signal.SIGKILL)
    kill_s = time.monotonic()
    await eventually(is_not_serving, 5)
    noticed_s = time.monotonic() - kill_s
    await elapsed(max(0.0, down_s - noticed_s))
    await cluster.start_postgres()
    start_s = time.monotonic()
    await eventually(is_serving, 10)
    done = await cluster.value("SELECT count(*) FROM batch_results")
    await cluster.until(f"SELECT count(*) > {done} FROM batch_results", 10)
    return noticed_s, time.monotonic() - start_s


async def endure(cluster: Cluster, ledger: Ledger, downs_s: list[float], up_s: float) -> Load:
    """Kills PostgreSQL several times. Server and workers survive, and everything is done."""
    server = await cluster.start_server(CATEGORIZER_TEST__FAKE_MODEL=TIMES)
    workers = cluster.start_workers(2)
    outages_s = []
    async with under_load(cluster, ledger, 0.4) as load:
        await cluster.until("SELECT count(*) > 0 FROM batch_results", 20)
        alive = {process.pid for process in psutil.Process(workers.pid).children()}
        for down_s in downs_s:
            outages_s.append(await lose_postgres(cluster, down_s))
            await elapsed(up_s)
        assert await cluster.value("SHOW fsync") == "on"
        assert await cluster.value("SHOW synchronous_commit") == "on"
    seconds = await cluster.drained(60)
    await ledger.check(cluster.postgres.url, cluster.images)
    assert {process.pid for process in psutil.Process(workers.pid).children()} == alive
    assert server.poll() is None
    assert load.failed_probes == 0
    assert not {code: load.codes[code] for code in UNWANTED if load.codes[code]}
    assert load.slowest_s <= 5
    crashes = await cluster.value("SELECT max(worker_crashes) FROM batch_chunks")
    print(
        f"{ledger.item_count} items in {len(ledger.batches)} batches; noticed after at most"
        f" {max(off for off, _ in outages_s):.1f} s, at work again"
        f" {max(on for _, on in outages_s):.1f} s after the start; calls {dict(load.codes)},"
        f" slowest {load.slowest_s:.2f} s, slowest refusal {load.slowest_refusal_s:.2f} s;"
        f" at most {crashes} crashes of a chunk; drained {seconds:.1f} s after"
    )
    return load


async def test_postgres_dies_once(cluster, ledger):
    await endure(cluster, ledger, [1.0], 0.5)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_r4_postgres_dies_five_times_and_is_gone_for_a_minute(cluster, ledger):
    load = await endure(cluster, ledger, [5.0] * 5 + [60.0], 15.0)
    assert load.slowest_refusal_s <= 3
    assert await cluster.value("SELECT max(worker_crashes) FROM batch_chunks") == 0
