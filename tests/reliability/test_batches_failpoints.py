"""Processes die at every named point of a batch's life."""

import asyncio
import random
import signal

import grpc
import pytest
from image_categorizer.v1 import batch_pb2

from tests.support.house import House
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
SERVER_POINTS = (
    "blob.stored",
    "batch.accepting",
    "batch.accepted",
    "relay.taken",
    "relay.sent",
    "batch.notified",
)
ITEMS = 70
# The others run with `make test-faults`.
QUICK_POINTS = {"results.written", "batch.accepted"}


def points(*names: str) -> list[object]:
    return [
        name if name in QUICK_POINTS else pytest.param(name, marks=pytest.mark.slow)
        for name in names
    ]


async def died(house: House, process, within_s: float = 20) -> None:
    """Waits until the process has killed itself."""
    async with asyncio.timeout(within_s):
        assert await asyncio.to_thread(process.wait) == -signal.SIGKILL, house.log("worker")


async def finish(house: House, ledger: Ledger, within_s: float = 50) -> None:
    """Starts a worker that nothing kills; all invariants hold in the end."""
    worker = house.start_worker()
    await house.drained(within_s)
    await ledger.check(house.postgres.url, house.images)
    assert await house.end(worker, signal.SIGTERM) == 0


async def submit_first(house: House, ledger: Ledger) -> None:
    """Submits a batch that goes before all earlier ones.

    What these left may be run alone, in children of the worker: there the child would die.
    """
    given = pictures(ITEMS, random.randrange(2**31))
    await house.submit(ledger, given, priority=min(10, len(ledger.batches)))


async def worker_dies(house: House, ledger: Ledger, point: str) -> None:
    lease_s = "0.5" if point == "chunk.extended" else "2"
    await submit_first(house, ledger)
    variables = {FAILPOINT: f"{point}:1", "CATEGORIZER_WORKER__LEASE_S": lease_s}
    await died(house, house.start_worker(**variables))


async def stopping_worker_dies(house: House, ledger: Ledger, point: str) -> None:
    await submit_first(house, ledger)
    variables = {FAILPOINT: f"{point}:1", "CATEGORIZER_WORKER__GRACE_S": "0"}
    # What the dead before it had in hand may still be leased: a lease of its own is waited for.
    token = await house.value("SELECT coalesce(max(lease_token), 0) FROM batch_chunks")
    worker = house.start_worker(**variables)
    await house.until(f"SELECT max(lease_token) > {token} FROM batch_chunks", 20)
    worker.terminate()
    await died(house, worker)


async def sweeper_dies(house: House, ledger: Ledger, point: str) -> None:
    """Leaves a dead worker's chunks and an unrung bell to a sweeper that dies as well."""
    await worker_dies(house, ledger, "image.classified")
    await died(house, house.start_worker(**{FAILPOINT: f"{point}:1"}))


async def server_dies(house: House, ledger: Ledger, server, point: str):
    """The caller has no answer and asks again, with the same request id, a server that lives."""
    await house.end(server, signal.SIGTERM)
    server = await house.start_server(**{FAILPOINT: f"{point}:1"})
    given = pictures(ITEMS, random.randrange(2**31))
    request_id = f"r{random.getrandbits(60)}"
    with pytest.raises(grpc.aio.AioRpcError):
        await house.submit(ledger, given, request_id=request_id)
    await died(house, server)
    server = await house.start_server()
    await house.submit(ledger, given, request_id=request_id)
    return server


@pytest.mark.parametrize("point", points(*WORKER_POINTS))
async def test_a_worker_dies(house, ledger, point):
    times = "0,20" if point == "chunk.extended" else "0,1"
    await house.start_server(CATEGORIZER_TEST__FAKE_MODEL=times)
    await worker_dies(house, ledger, point)
    await finish(house, ledger)


@pytest.mark.parametrize("point", points(*STOP_POINTS))
async def test_a_worker_that_stops_dies(house, ledger, point):
    await house.start_server(CATEGORIZER_TEST__FAKE_MODEL="0,50")
    await stopping_worker_dies(house, ledger, point)
    await finish(house, ledger)


@pytest.mark.parametrize("point", points(*SWEEP_POINTS))
async def test_a_sweeper_dies(house, ledger, point):
    await house.start_server()
    await sweeper_dies(house, ledger, point)
    await finish(house, ledger)


@pytest.mark.parametrize("point", points(*SERVER_POINTS))
async def test_a_server_dies_while_it_accepts(house, ledger, point):
    house.variables["CATEGORIZER_BATCH__UPLOAD_LEASE_S"] = "2"
    server = await house.start_server()
    await server_dies(house, ledger, server, point)
    await finish(house, ledger)


@pytest.mark.parametrize("point", points("batch.cancelled", "batch.retried", "batch.deleting"))
async def test_a_server_dies_while_it_changes_a_batch(house, ledger, point):
    server = await house.start_server()
    batch = await house.submit(ledger, pictures(ITEMS))
    if point == "batch.deleting":
        worker = house.start_worker()
        await house.drained(30)
        await house.end(worker, signal.SIGTERM)
    if point == "batch.retried":
        await house.call("CancelBatch", batch_pb2.CancelBatchRequest(batch_id=batch.batch_id))
    await house.end(server, signal.SIGTERM)
    server = await house.start_server(**{FAILPOINT: f"{point}:1"})
    method, request = {
        "batch.cancelled": ("CancelBatch", batch_pb2.CancelBatchRequest),
        "batch.retried": ("RetryBatch", batch_pb2.RetryBatchRequest),
        "batch.deleting": ("DeleteBatch", batch_pb2.DeleteBatchRequest),
    }[point]
    with pytest.raises(grpc.aio.AioRpcError):
        await house.call(method, request(batch_id=batch.batch_id))
    await died(house, server)
    await house.start_server()
    if point != "batch.retried":
        ledger.batches.clear()  # it is cancelled, or gone
    await finish(house, ledger)
