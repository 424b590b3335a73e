"""A database that answers late, or not at all: calls end in time, and say why."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from image_categorizer._statuses import from_rpc_error
from image_categorizer.v1 import admin_pb2, admin_pb2_grpc, batch_pb2, batch_pb2_grpc
from image_categorizer_server.db.database import connected
from image_categorizer_server.domain.access import Role
from image_categorizer_server.domain.batch import BatchConfig
from image_categorizer_server.services.batch import Batches
from image_categorizer_server.services.upload import NewItem
from image_categorizer_server.settings.batch import BatchSettings
from image_categorizer_server.settings.database import DatabaseSettings

from tests.integration.conftest import Running, running_server
from tests.support.batch_tools import PICTURES
from tests.support.database import open_for_all_tenants
from tests.support.fault_proxy import FaultProxy
from tests.support.polling import eventually

SOCKET = ".s.PGSQL.5432"
# A call may outlive its deadline by half a second; the rest is for a busy machine.
LATE_S = 0.5 + 0.5
CALLS = {
    "create": (batch_pb2_grpc.BatchServiceStub, "CreateBatch", None),
    "list": (batch_pb2_grpc.BatchServiceStub, "ListBatches", batch_pb2.ListBatchesRequest()),
    "get": (batch_pb2_grpc.BatchServiceStub, "GetBatch", batch_pb2.GetBatchRequest(batch_id="b")),
    "cancel": (
        batch_pb2_grpc.BatchServiceStub,
        "CancelBatch",
        batch_pb2.CancelBatchRequest(batch_id="b"),
    ),
    "delete": (
        batch_pb2_grpc.BatchServiceStub,
        "DeleteBatch",
        batch_pb2.DeleteBatchRequest(batch_id="b"),
    ),
    "retry": (
        batch_pb2_grpc.BatchServiceStub,
        "RetryBatch",
        batch_pb2.RetryBatchRequest(batch_id="b"),
    ),
    "webhooks": (
        admin_pb2_grpc.AdminServiceStub,
        "ListWebhooks",
        admin_pb2.ListWebhooksRequest(),
    ),
}


@asynccontextmanager
async def proxied(stores, proxy: FaultProxy) -> AsyncIterator[str]:
    """Yields the address of the database behind the proxy."""
    folder = stores.installation.sockets / "slow"
    folder.mkdir(exist_ok=True)
    async with proxy.running(folder / SOCKET):
        yield stores.postgres.url.partition("?")[0] + f"?host={folder}"


def proxy_of(stores) -> FaultProxy:
    return FaultProxy(f"unix:{stores.installation.sockets}/postgres/{SOCKET}")


@asynccontextmanager
async def server_behind(
    proxy: FaultProxy, stores, settings, timeout_s: float = 1
) -> AsyncIterator[Running]:
    async with proxied(stores, proxy) as url:
        changed = {"database_url": url, "database": DatabaseSettings(timeout_s=timeout_s)}
        async with running_server(settings.model_copy(update=changed)) as running:
            yield running


def create_request() -> batch_pb2.CreateBatchRequest:
    items = [batch_pb2.BatchItem(image=picture) for picture in PICTURES[:3]]
    return batch_pb2.CreateBatchRequest(items=items)


async def called(running: Running, key: str, name: str, timeout_s: float | None) -> object:
    """Calls an RPC; the server learns of the deadline, and the caller waits for its answer."""
    stub, method, request = CALLS[name]
    async with grpc.aio.insecure_channel(running.address) as channel:
        rpc = getattr(stub(channel), method)
        headers = [("authorization", f"Bearer {key}")]
        try:
            return await rpc(request or create_request(), metadata=headers, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            return from_rpc_error(error)


@pytest.mark.parametrize(
    ("delay_s", "timeout_s", "deadline_s"),
    [(0.7, 1.0, 1.5), pytest.param(2.0, 4.0, 10.0, marks=pytest.mark.slow)],
)
async def test_no_call_outlives_the_deadline_when_the_database_is_slow(
    stores, settings, delay_s, timeout_s, deadline_s
):
    server = settings.server.model_copy(update={"default_deadline_s": deadline_s})
    proxy = proxy_of(stores)
    async with server_behind(
        proxy, stores, settings.model_copy(update={"server": server}), timeout_s
    ) as running:
        key = await running.key(Role.ADMIN)
        proxy.slow_down(delay_s)
        for name in CALLS:
            begin_s = time.monotonic()
            error = await called(running, key, name, None)
            took_s = time.monotonic() - begin_s
            print(f"{name}: {took_s:.1f} s, {getattr(error, 'reason', 'OK')}")
            assert took_s < deadline_s + LATE_S, name
            reason = getattr(error, "reason", None)
            assert reason in {"DEADLINE_EXCEEDED", "DEPENDENCY_DOWN", "BATCH_NOT_FOUND", None}, name
        proxy.slow_down(0)
        await eventually(_no_upload_is_left)


async def _no_upload_is_left() -> bool:
    async with connected() as connection:
        return not await connection.fetchval("SELECT count(*) FROM batch_uploads")


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
async def test_a_database_that_is_silent_is_reported_as_down(stores, settings, name):
    proxy = proxy_of(stores)
    async with server_behind(proxy, stores, settings) as running:
        key = await running.key(Role.ADMIN)
        await called(running, key, "list", 10)  # the key is known now
        proxy.swallow()
        for _ in range(2):  # on a connection of before, and on a new one
            begin_s = time.monotonic()
            error = await called(running, key, name, 10)
            assert getattr(error, "reason", "") == "DEPENDENCY_DOWN", error
            # The timeout of a statement is 1 s here and 4 s by default: within 5 s by default.
            assert time.monotonic() - begin_s < 1 + LATE_S


async def numbered(count: int, images: bool) -> AsyncIterator[NewItem]:
    async def content(number: int):
        yield str(number).encode()

    for number in range(count):
        uri = f"https://photos.test/{number}"
        yield NewItem(str(number), content(number) if images else None, None if images else uri)


async def answers_for(stores, storage, count: int, images: bool) -> int:
    """Returns the number of answers of a slow database while a batch is created."""
    proxy = proxy_of(stores)
    async with (
        proxied(stores, proxy) as url,
        open_for_all_tenants(url, DatabaseSettings(timeout_s=20)),
    ):
        batches = Batches(storage, BatchSettings(max_items=400_000), 1000)
        await batches.list("t1")  # connects
        proxy.slow_down(0.05)
        await batches.create("t1", "key", BatchConfig(), numbered(count, images))
        return proxy.answers


@pytest.mark.parametrize("images", [True, False])
async def test_the_round_trips_of_a_batch_do_not_grow_with_its_images(
    stores, empty_database, storage, images
):
    few = await answers_for(stores, storage, 3, images)
    many = await answers_for(stores, storage, 2000, images)
    assert many <= few + 30, (few, many)


@pytest.mark.slow
async def test_hundreds_of_thousands_of_uris_are_written_in_seconds(database, storage):
    batches = Batches(storage, BatchSettings(max_items=400_000), 1000)
    begin_s = time.monotonic()
    batch = await batches.create("t1", "key", BatchConfig(), numbered(100_000, False))
    print(f"100,000 URIs: {time.monotonic() - begin_s:.1f} s")
    assert batch.item_count == 100_000
    assert time.monotonic() - begin_s < 60
