"""One request ID, many concurrent callers."""

import asyncio
import random
import signal

import grpc
import pytest
from image_categorizer.v1 import batch_pb2, batch_pb2_grpc

from tests.support.cluster import SERVER, Cluster
from tests.support.ledger import Ledger, Picture, pictures
from tests.support.polling import elapsed

DAY_S = 86_400


def request_for(given: list[Picture], request_id: str) -> batch_pb2.CreateBatchRequest:
    items = [batch_pb2.BatchItem(image=p.content, filename=p.name) for p in given]
    return batch_pb2.CreateBatchRequest(items=items, request_id=request_id)


async def ask(
    address: str,
    key: str,
    request: batch_pb2.CreateBatchRequest,
    cancel_after_s: float | None = None,
) -> str:
    """Returns the batch ID or the status. Cancels the call after `cancel_after_s`, if given."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = batch_pb2_grpc.BatchServiceStub(channel)
        call = stub.CreateBatch(request, metadata=(("authorization", f"Bearer {key}"),), timeout=30)
        if cancel_after_s is not None:
            await elapsed(cancel_after_s)
            call.cancel()
            return "cancelled"
        try:
            return str((await call).batch_id)
        except grpc.aio.AioRpcError as error:
            return str(error.code().name)


async def second_server(cluster: Cluster, name: str, **variables: str) -> str:
    """Starts another server. Returns its address."""
    address = f"unix:{cluster.sockets}/{name}.sock"
    process = cluster.start(SERVER, name, CATEGORIZER_SERVER__BIND=address, **variables)
    async with grpc.aio.insecure_channel(address) as channel:
        async with asyncio.timeout(60):
            await channel.channel_ready()
    assert process.poll() is None
    return address


@pytest.mark.parametrize("callers", [24, pytest.param(100, marks=pytest.mark.slow)])
async def test_concurrent_equal_requests_make_one_batch(
    cluster: Cluster, ledger: Ledger, callers: int
):
    cluster.variables["CATEGORIZER_SECURITY__KEY_CACHE_S"] = "0.1"
    # A call that is cancelled at the wrong moment leaves its upload until the lease ends.
    cluster.variables["CATEGORIZER_BATCH__UPLOAD_LEASE_S"] = "5"
    await cluster.start_server()
    addresses = [cluster.address, await second_server(cluster, "other-server")]
    given = pictures(10)
    request = request_for(given, "once")
    ledger.submitted(given)
    chance = random.Random(0)
    answers = await asyncio.gather(
        *(
            ask(
                addresses[number % 2],
                cluster.api_key,
                request,
                chance.uniform(0, 0.2) if number % 4 >= 2 else None,
            )
            for number in range(callers)
        )
    )
    (batch_id,) = set(answers) - {"cancelled"}
    assert batch_id.startswith("b-"), answers
    assert await cluster.value("SELECT count(*) FROM batches") == 1
    ledger.acknowledged(batch_id, 10)
    await check_other_requests(cluster, ledger, addresses, given, batch_id)
    cluster.start_worker()
    await cluster.drained(90)
    await ledger.check(cluster.postgres.url, cluster.images)


async def check_other_requests(
    cluster: Cluster, ledger: Ledger, addresses: list[str], given: list[Picture], batch_id: str
) -> None:
    """Another body is refused. Another tenant gets a batch of its own."""
    other_body = request_for(pictures(10, 1), "once")
    refused = await asyncio.gather(*(ask(a, cluster.api_key, other_body) for a in addresses * 5))
    assert set(refused) == {"ALREADY_EXISTS"}
    other_key = await cluster.key_of("b")
    others = await asyncio.gather(
        *(ask(a, other_key, request_for(given, "once")) for a in addresses * 5)
    )
    assert len(set(others)) == 1
    assert others[0] != batch_id
    assert others[0].startswith("b-")
    ledger.acknowledged(others[0], 10)


@pytest.mark.parametrize(
    ("later_s", "is_new"),
    [pytest.param(-60, False, marks=pytest.mark.slow), (2, True)],
    ids=["before", "after"],
)
async def test_a_request_id_is_remembered_for_a_day(cluster, ledger, later_s, is_new):
    server = await cluster.start_server()
    given = pictures(4)
    first = await cluster.submit(ledger, given, request_id="daily")
    await cluster.end(server, signal.SIGTERM)
    await cluster.start_server(CATEGORIZER_TEST__CLOCK_OFFSET_S=str(DAY_S + later_s))
    second = await ask(cluster.address, cluster.api_key, request_for(given, "daily"))
    assert second.startswith("b-")
    assert (second != first.batch_id) is is_new
