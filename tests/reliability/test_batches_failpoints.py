"""Processes die at every failpoint in the life of a batch."""

import asyncio
import random
import signal

import grpc
import pytest
from image_categorizer.v1 import batch_pb2

from tests.support.cluster import Cluster
from tests.support.ledger import Ledger, pictures

FAILPOINT = "CATEGORIZER_TEST__FAILPOINT"
WORKER_POINTS = (
    "chunk.claimed",
    "image.read",
    "image.classified",
    "results.writing",
    "results.written",
    "batch.ended",
    "chunk.extended",
)
STOP_POINTS = ("chunk.returning",)
SWEEP_POINTS = ("sweep.begun", "sweep.expired", "relay.taken", "relay.sent")
REMOVAL_POINTS = ("rows.removing", "rows.removed", "blobs.removing", "blobs.removed")
SERVER_POINTS = (
    "blob.stored",
    "batch.accepting",
    "batch.accepted",
    "relay.taken",
    "relay.sent",
    "batch.notified",
)
ITEMS = 70
# All others run with `make test-faults`.
QUICK_POINTS = {"results.written", "batch.accepted"}


def points(*names: str) -> list[object]:
    return [
        name if name in QUICK_POINTS else pytest.param(name, marks=pytest.mark.slow)
        for name in names
    ]


async def crashed(cluster: Cluster, process, within_s: float = 20) -> None:
    """Waits until the process has killed itself."""
    async with asyncio.timeout(within_s):
        assert await asyncio.to_thread(process.wait) == -signal.SIGKILL, cluster.log("worker")


async def finish(cluster: Cluster, ledger: Ledger, within_s: float = 50) -> None:
    """Runs a worker without failpoints until all is done, and checks the invariants."""
    worker = cluster.start_worker()
    await cluster.drained(within_s)
    await ledger.check(cluster.postgres.url, cluster.images)
    assert await cluster.end(worker, signal.SIGTERM) == 0


async def submit_first(cluster: Cluster, ledger: Ledger) -> None:
    """Submits a batch that workers run before all earlier ones.

    Items of earlier batches may be isolated in child processes, where only the child would die.
    """
    given = pictures(ITEMS, random.randrange(2**31))
    await cluster.submit(ledger, given, priority=min(10, len(ledger.batches)))


async def worker_dies(cluster: Cluster, ledger: Ledger, point: str) -> None:
    lease_s = "0.5" if point == "chunk.extended" else "2"
    await submit_first(cluster, ledger)
    variables = {FAILPOINT: f"{point}:1", "CATEGORIZER_WORKER__LEASE_S": lease_s}
    await crashed(cluster, cluster.start_worker(**variables))


async def stopping_worker_dies(cluster: Cluster, ledger: Ledger, point: str) -> None:
    await submit_first(cluster, ledger)
    variables = {FAILPOINT: f"{point}:1", "CATEGORIZER_WORKER__GRACE_S": "0"}
    # Chunks of processes that died before may still be leased: wait for a lease of its own.
    token = await cluster.value("SELECT coalesce(max(lease_token), 0) FROM batch_chunks")
    worker = cluster.start_worker(**variables)
    await cluster.until(f"SELECT max(lease_token) > {token} FROM batch_chunks", 20)
    worker.terminate()
    await crashed(cluster, worker)


async def sweeper_dies(cluster: Cluster, ledger: Ledger, point: str) -> None:
    """A sweeper dies that finds chunks and notifications of a dead worker."""
    await worker_dies(cluster, ledger, "image.classified")
    await crashed(cluster, cluster.start_worker(**{FAILPOINT: f"{point}:1"}))


async def server_dies(cluster: Cluster, ledger: Ledger, server, point: str):
    """The caller gets no answer, and repeats the request ID with a server that lives."""
    await cluster.end(server, signal.SIGTERM)
    server = await cluster.start_server(**{FAILPOINT: f"{point}:1"})
    given = pictures(ITEMS, random.randrange(2**31))
    request_id = f"r{random.getrandbits(60)}"
    with pytest.raises(grpc.aio.AioRpcError):
        await cluster.submit(ledger, given, request_id=request_id)
    await crashed(cluster, server)
    server = await cluster.start_server()
    await cluster.submit(ledger, given, request_id=request_id)
    return server


@pytest.mark.parametrize("point", points(*WORKER_POINTS))
async def test_a_worker_dies(cluster, ledger, point):
    times = "0,20" if point == "chunk.extended" else "0,1"
    await cluster.start_server(CATEGORIZER_TEST__FAKE_MODEL=times)
    await worker_dies(cluster, ledger, point)
    await finish(cluster, ledger)


@pytest.mark.parametrize("point", points(*STOP_POINTS))
async def test_a_worker_that_stops_dies(cluster, ledger, point):
    await cluster.start_server(CATEGORIZER_TEST__FAKE_MODEL="0,50")
    await stopping_worker_dies(cluster, ledger, point)
    await finish(cluster, ledger)


@pytest.mark.parametrize("point", points(*SWEEP_POINTS))
async def test_a_sweeper_dies(cluster, ledger, point):
    await cluster.start_server()
    await sweeper_dies(cluster, ledger, point)
    await finish(cluster, ledger)


@pytest.mark.parametrize("point", points(*REMOVAL_POINTS))
async def test_a_worker_dies_while_it_removes_a_batch(cluster, ledger, point):
    await cluster.start_server()
    batch = await cluster.submit(ledger, pictures(ITEMS))
    await cluster.call("CancelBatch", batch_pb2.CancelBatchRequest(batch_id=batch.batch_id))
    await cluster.call("DeleteBatch", batch_pb2.DeleteBatchRequest(batch_id=batch.batch_id))
    ledger.batches.clear()
    await crashed(cluster, cluster.start_worker(**{FAILPOINT: f"{point}:1"}))
    await finish(cluster, ledger, 100)  # the lease of a removal is a minute
    assert await cluster.value("SELECT count(*) FROM batch_items") == 0


@pytest.mark.parametrize("point", points(*SERVER_POINTS))
async def test_a_server_dies_while_it_accepts(cluster, ledger, point):
    cluster.variables["CATEGORIZER_BATCH__UPLOAD_LEASE_S"] = "2"
    server = await cluster.start_server()
    await server_dies(cluster, ledger, server, point)
    await finish(cluster, ledger)


@pytest.mark.parametrize("point", points("batch.cancelled", "batch.retried", "batch.deleting"))
async def test_a_server_dies_while_it_changes_a_batch(cluster, ledger, point):
    server = await cluster.start_server()
    batch = await cluster.submit(ledger, pictures(ITEMS))
    if point == "batch.deleting":
        worker = cluster.start_worker()
        await cluster.drained(30)
        await cluster.end(worker, signal.SIGTERM)
    if point == "batch.retried":
        await cluster.call("CancelBatch", batch_pb2.CancelBatchRequest(batch_id=batch.batch_id))
    await cluster.end(server, signal.SIGTERM)
    server = await cluster.start_server(**{FAILPOINT: f"{point}:1"})
    method, request = {
        "batch.cancelled": ("CancelBatch", batch_pb2.CancelBatchRequest),
        "batch.retried": ("RetryBatch", batch_pb2.RetryBatchRequest),
        "batch.deleting": ("DeleteBatch", batch_pb2.DeleteBatchRequest),
    }[point]
    with pytest.raises(grpc.aio.AioRpcError):
        await cluster.call(method, request(batch_id=batch.batch_id))
    await crashed(cluster, server)
    await cluster.start_server()
    if point != "batch.retried":
        ledger.batches.clear()  # it is cancelled or deleted
    await finish(cluster, ledger)
