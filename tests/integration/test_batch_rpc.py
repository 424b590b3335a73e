"""BatchService of a real server, as far as it goes without workers: their part is played here."""

import asyncio
import json
from collections import Counter
from contextlib import aclosing
from dataclasses import replace

import grpc
import pytest
from image_categorizer import (
    BatchNotFound,
    BatchRunning,
    CategorizerError,
    CredentialsInvalid,
    DeadlineExceeded,
    ImageCategorizationClient,
    InvalidRequest,
    RoleInsufficient,
)
from image_categorizer._statuses import from_rpc_error
from image_categorizer.v1 import batch_pb2
from image_categorizer_server.domain.access import Role

from tests.integration.conftest import running_server
from tests.support.batch_tools import PICTURES, SOURCES, all_of, batch_stub, do_all
from tests.support.keys import revoke_all
from tests.support.polling import elapsed, eventually


async def test_results_come_by_item_and_name_what_failed(client):
    batch = await client.batches.submit(SOURCES)
    await do_all(bad=frozenset({3}))
    done = await client.batches.get(batch.batch_id)
    assert (done.state, done.succeeded_count, done.failed_count) == ("COMPLETED", 4, 1)
    assert [(f.item_id, f.filename, f.error.reason) for f in done.failures] == [
        ("3", "3.jpg", "IMAGE_UNDECODABLE")
    ]
    found = await all_of(client.batches.results(batch.batch_id))
    assert [r.filename for r in found] == [name for name, _ in SOURCES]
    assert [r.error is None for r in found] == [True, True, True, False, True]
    assert found[0].category.startswith("category")
    assert (found[0].confidence, found[0].model.name) == (0.75, "fake")


async def test_results_are_paged(client, server):
    batch = await client.batches.submit([(f"{n}.jpg", PICTURES[0]) for n in range(25)])
    await do_all()
    stub, headers = await batch_stub(server)
    sizes, token = [], ""
    while True:
        request = batch_pb2.ListBatchResultsRequest(
            batch_id=batch.batch_id, page_size=10, page_token=token
        )
        page = await stub.ListBatchResults(request, metadata=headers)
        sizes.append(len(page.results))
        if not (token := page.next_page_token):
            break
    assert sizes == [10, 10, 5]


async def test_batches_are_listed_the_newest_first_and_by_state(client):
    made = [(await client.batches.submit(SOURCES[:1])).batch_id for _ in range(3)]
    await client.batches.cancel(made[1])
    assert [b.batch_id async for b in client.batches.list()] == made[::-1]
    assert [b.batch_id async for b in client.batches.list("CANCELLED")] == [made[1]]
    assert [b.batch_id async for b in client.batches.list("QUEUED")] == [made[2], made[0]]


async def test_cancel_retry_delete(client):
    batch = await client.batches.submit(SOURCES)
    with pytest.raises(BatchRunning):
        await client.batches.delete(batch.batch_id)
    with pytest.raises(BatchRunning):
        await client.batches.retry(batch.batch_id)
    cancelled = await client.batches.cancel(batch.batch_id)
    assert (cancelled.state, cancelled.pending_count) == ("CANCELLED", 5)
    assert (await client.batches.cancel(batch.batch_id)).state == "CANCELLED"
    await do_all()
    assert (await client.batches.get(batch.batch_id)).pending_count == 5
    assert (await client.batches.retry(batch.batch_id)).state == "QUEUED"
    await do_all(bad=frozenset({0}))
    assert (await client.batches.retry(batch.batch_id)).pending_count == 1
    await do_all()
    done = await client.batches.get(batch.batch_id)
    assert (done.state, done.succeeded_count) == ("COMPLETED", 5)
    await client.batches.delete(batch.batch_id)
    batches = client.batches
    for call in (batches.get, batches.cancel, batches.retry, batches.delete):
        with pytest.raises(BatchNotFound):
            await call(batch.batch_id)


async def test_watching_ends_with_the_batch(client):
    batch = await client.batches.submit(SOURCES)
    watching = asyncio.create_task(all_of(client.batches.watch(batch.batch_id)))
    await elapsed(0.5)
    await do_all()
    seen = await asyncio.wait_for(watching, 10)
    assert (seen[0].state, seen[-1].state) == ("QUEUED", "COMPLETED")
    assert [b.has_ended for b in seen].count(True) == 1
    with pytest.raises(BatchNotFound):
        await all_of(client.batches.watch("b-none"))


async def test_a_watcher_of_a_server_that_stops_asks_another(settings, server):
    stub, headers = await batch_stub(server)
    async with await server.client() as client:
        batch = await client.batches.submit(SOURCES)
    call = stub.WatchBatch(batch_pb2.WatchBatchRequest(batch_id=batch.batch_id), metadata=headers)
    assert not (await call.read()).done
    server.backend.refusing.set()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert from_rpc_error(caught.value).reason == "DRAINING"


async def test_a_key_revoked_while_it_watches_hears_no_more(server):
    async with await server.client() as client:
        batch = await client.batches.submit(SOURCES)
        watching = client.batches.watch(batch.batch_id)
        assert (await anext(watching)).state == "QUEUED"
        await revoke_all()
        await elapsed(server.backend.settings.security.key_cache_s)
        await do_all()
        with pytest.raises(CredentialsInvalid):
            await anext(watching)


@pytest.mark.parametrize("name", ["\0", "b-\0", "b" * 65, "b-é"])
async def test_what_never_was_a_name_names_no_batch(client, name):
    batches = client.batches
    for call in (batches.get, batches.cancel, batches.retry, batches.delete):
        with pytest.raises(BatchNotFound):
            await call(name)
    for found in (client.batches.results, client.batches.export, client.batches.watch):
        with pytest.raises(BatchNotFound):
            await all_of(found(name))


async def test_exports_have_a_line_for_each_item(client):
    batch = await client.batches.submit(SOURCES)
    await do_all(bad=frozenset({1}))
    text = b"".join(await all_of(client.batches.export(batch.batch_id))).decode()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["item_id"] for line in lines] == list("01234")
    assert [line["error_reason"] for line in lines][:2] == [None, "IMAGE_UNDECODABLE"]
    text = b"".join(await all_of(client.batches.export(batch.batch_id, "csv"))).decode()
    assert text.count("\r\n") == 6
    with pytest.raises(InvalidRequest, match="format"):
        await all_of(client.batches.export(batch.batch_id, "xlsx"))
    with pytest.raises(BatchNotFound):
        await all_of(client.batches.export("b-none"))


class Endless:
    """Exports the first result of a batch for ever."""

    def __init__(self, inner):
        self._inner = inner
        self.create, self.get = inner.create, inner.get
        self.exports = 0
        """How many have not ended."""

    async def export(self, tenant_id, batch_id):
        self.exports += 1
        try:
            async with aclosing(self._inner.export(tenant_id, batch_id)) as results:
                result = await anext(results)
            while True:
                yield result
        finally:
            self.exports -= 1


async def rest_of(call):
    while await call.read():
        pass


async def test_an_export_that_nobody_takes_is_ended(settings):
    short = settings.model_copy(
        update={"server": settings.server.model_copy(update={"send_timeout_s": 0.5})}
    )
    async with (
        running_server(
            short, change=lambda backend: replace(backend, batches=Endless(backend.batches))
        ) as server,
        await server.client() as client,
    ):
        batch = await client.batches.submit(SOURCES)
        await do_all()
        stub, headers = await batch_stub(server)
        request = batch_pb2.ExportBatchResultsRequest(batch_id=batch.batch_id)
        call = stub.ExportBatchResults(request, metadata=headers)
        await call.read()
        assert server.backend.batches.exports == 1
        await eventually(lambda: not server.backend.batches.exports)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rest_of(call)
    assert isinstance(from_rpc_error(caught.value), DeadlineExceeded)


async def test_viewers_may_look_only(server, client):
    batch = await client.batches.submit(SOURCES)
    async with await server.client(Role.VIEWER) as viewer:
        assert (await viewer.batches.get(batch.batch_id)).item_count == 5
        assert await all_of(viewer.batches.results(batch.batch_id)) == []
        assert len(await all_of(viewer.batches.list())) == 1
        for call in (viewer.batches.cancel, viewer.batches.retry, viewer.batches.delete):
            with pytest.raises(RoleInsufficient):
                await call(batch.batch_id)
        with pytest.raises(RoleInsufficient):
            await viewer.batches.submit(SOURCES)


async def do_all_until(task):
    """Does what workers do until a task has ended."""
    while not task.done():
        await do_all()
        await elapsed(0.05)


def in_thread(server_address, key, sources):
    with ImageCategorizationClient(key, server_address) as client:
        batch = client.batches.submit(sources)
        seen = list(client.batches.watch(batch.batch_id))
        found = list(client.batches.results(batch.batch_id))
        exported = b"".join(client.batches.export(batch.batch_id))
        listed = [b.batch_id for b in client.batches.list("COMPLETED")]
        client.batches.delete(batch.batch_id)
        return batch, seen, found, exported, listed


async def test_the_ordinary_client_does_the_same(server, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, content in SOURCES:
        (folder / name).write_bytes(content)
    key = await server.key(Role.CLASSIFIER)
    calls = asyncio.create_task(asyncio.to_thread(in_thread, server.address, key, folder))
    await do_all_until(calls)
    batch, seen, found, exported, listed = await calls
    assert seen[-1].state == "COMPLETED"
    assert Counter(r.filename for r in found) == Counter(map(str, folder.iterdir()))
    assert exported.count(b"\n") == 5
    assert listed == [batch.batch_id]


async def test_classify_batch_yields_results_and_reports_a_cancellation(client):
    async def classify():
        return [result.filename async for result in client.classify_batch(SOURCES)]

    working = asyncio.create_task(classify())
    await do_all_until(working)
    assert await working == [name for name, _ in SOURCES]

    working = asyncio.create_task(classify())
    await elapsed(0.5)
    (batch,) = await all_of(client.batches.list("QUEUED"))
    await client.batches.cancel(batch.batch_id)
    with pytest.raises(CategorizerError, match="CANCELLED: 5 items have no outcome"):
        await working
