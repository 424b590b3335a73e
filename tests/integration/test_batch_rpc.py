"""BatchService of a real server, as far as it goes without workers: their part is played here."""

import asyncio
import json
from collections import Counter

import grpc
import pytest
from image_categorizer import (
    AsyncImageCategorizationClient,
    BatchNotFound,
    BatchRunning,
    BatchTooLarge,
    CategorizerError,
    CategoryNotFound,
    DeadlineExceeded,
    ImageCategorizationClient,
    InvalidRequest,
    ModelNotFound,
    RequestIdReused,
    RoleInsufficient,
)
from image_categorizer.errors import from_rpc_error
from image_categorizer.v1 import batch_pb2, batch_pb2_grpc
from image_categorizer_server.db import chunks, results
from image_categorizer_server.domain import Role

from tests.batch_tools import failed_outcome, right_outcome
from tests.integration.conftest import running_server
from tests.pictures import jpeg

PICTURES = [jpeg(64, 48, seed) for seed in range(5)]
SOURCES = [(f"{number}.jpg", content) for number, content in enumerate(PICTURES)]


@pytest.fixture
async def client(server):
    async with await server.client() as ready:
        yield ready


async def work(bad: frozenset[int] = frozenset()) -> None:
    """Does what waits, as workers do."""
    while chunk := await chunks.claim("test", 30):
        outcomes = [
            failed_outcome(item) if item.number in bad else right_outcome(item)
            for item in chunk.items
        ]
        assert await results.record(chunk, outcomes)


async def collected(items):
    return [item async for item in items]


async def test_an_upload_is_a_batch_that_waits(client):
    batch = await client.submit_batch(SOURCES, top_k=3, priority=2)
    assert batch.batch_id.startswith("b-")
    assert (batch.state, batch.item_count, batch.pending_count) == ("QUEUED", 5, 5)
    assert (batch.start_time, batch.end_time, batch.failures) == (None, None, ())
    assert await client.get_batch(batch.batch_id) == batch


async def test_results_come_by_item_and_name_what_failed(client):
    batch = await client.submit_batch(SOURCES)
    await work(bad=frozenset({3}))
    done = await client.get_batch(batch.batch_id)
    assert (done.state, done.succeeded_count, done.failed_count) == ("COMPLETED", 4, 1)
    assert [(f.item_id, f.filename, f.error.reason) for f in done.failures] == [
        ("3", "3.jpg", "IMAGE_UNDECODABLE")
    ]
    found = await collected(client.batch_results(batch.batch_id))
    assert [r.filename for r in found] == [name for name, _ in SOURCES]
    assert [r.error is None for r in found] == [True, True, True, False, True]
    assert found[0].category.startswith("category")
    assert (found[0].confidence, found[0].model.name) == (0.75, "fake")


async def test_results_are_paged(client, server):
    batch = await client.submit_batch([(f"{n}.jpg", PICTURES[0]) for n in range(25)])
    await work()
    stub, headers = await stub_of(server)
    request = batch_pb2.ListBatchResultsRequest(batch_id=batch.batch_id, page_size=10)
    sizes = []
    while True:
        page = await stub.ListBatchResults(request, metadata=headers)
        sizes.append(len(page.results))
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert sizes == [10, 10, 5]


async def stub_of(server, role=Role.CLASSIFIER):
    channel = grpc.aio.insecure_channel(server.address)
    headers = (("authorization", f"Bearer {await server.key(role)}"),)
    return batch_pb2_grpc.BatchServiceStub(channel), headers


async def test_a_request_id_makes_submitting_idempotent(client):
    first = await client.submit_batch(SOURCES, request_id="once")
    assert (await client.submit_batch(SOURCES, request_id="once")).batch_id == first.batch_id
    with pytest.raises(RequestIdReused):
        await client.submit_batch(SOURCES[:2], request_id="once")
    with pytest.raises(RequestIdReused):
        await client.submit_batch(SOURCES, request_id="once", top_k=1)
    assert len(await collected(client.list_batches())) == 1


async def test_create_batch_takes_bytes_and_addresses(server):
    stub, headers = await stub_of(server)
    request = batch_pb2.CreateBatchRequest(
        items=[
            batch_pb2.BatchItem(image=PICTURES[0], filename="a.jpg"),
            batch_pb2.BatchItem(image=PICTURES[1]),
            batch_pb2.BatchItem(image_uri="https://example.com/photos/c%20d.jpg"),
        ],
        request_id="r",
    )
    batch = await stub.CreateBatch(request, metadata=headers)
    assert (batch.item_count, batch.options.top_k) == (3, 5)
    assert (await stub.CreateBatch(request, metadata=headers)).batch_id == batch.batch_id
    await work(bad=frozenset({0, 1, 2}))
    done = await stub.GetBatch(batch_pb2.GetBatchRequest(batch_id=batch.batch_id), metadata=headers)
    assert [f.filename for f in done.failures] == ["a.jpg", "1", "c d.jpg"]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"items": []}, InvalidRequest, "items: must hold 1 to"),
        ({"items": [{}]}, InvalidRequest, "items\\[0\\].image: or image_uri is required"),
        ({"items": [{"image_uri": "ftp://a/b"}]}, InvalidRequest, "items\\[0\\].image_uri"),
        (
            {"items": [{"image": b"a", "filename": "n" * 1025}]},
            InvalidRequest,
            "items\\[0\\].filename",
        ),
        ({"options": {"top_k": 0}}, InvalidRequest, "options.top_k"),
        ({"options": {"model": "nope"}}, ModelNotFound, "nope"),
        ({"options": {"include_categories": ["unicorn"]}}, CategoryNotFound, "unicorn"),
        ({"webhook_url": "ftp://a"}, InvalidRequest, "webhook_url"),
    ],
)
async def test_wrong_batches_are_refused_and_leave_nothing(server, client, change, error, words):
    stub, headers = await stub_of(server)
    fields = {"items": [{"image": PICTURES[0]}], **change}
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.CreateBatch(batch_pb2.CreateBatchRequest(**fields), metadata=headers)
    with pytest.raises(error, match=words):
        raise from_rpc_error(caught.value)
    assert await collected(client.list_batches()) == []


async def test_what_is_too_large_or_empty_fails_as_an_item(settings):
    small = settings.model_copy(update={"max_image_size_mb": 0.01})
    async with running_server(small) as server, await server.client() as client:
        sources = [("a", PICTURES[0]), ("b", bytes(50_000)), ("c", b""), ("d", PICTURES[1])]
        batch = await client.submit_batch(sources)
        assert (batch.item_count, batch.failed_count) == (4, 2)
        reasons = [(f.filename, f.error.reason) for f in batch.failures]
        assert reasons == [("b", "IMAGE_TOO_LARGE"), ("c", "IMAGE_UNDECODABLE")]


async def test_a_batch_has_a_most_of_items(settings):
    few = settings.batch.model_copy(update={"max_items": 3})
    settings = settings.model_copy(update={"batch": few})
    async with running_server(settings) as server, await server.client() as client:
        assert (await client.get_server_info()).limits.max_batch_items == 3
        with pytest.raises(BatchTooLarge, match="at most 3"):
            await client.submit_batch(SOURCES)
        assert await collected(client.list_batches()) == []


async def test_batches_are_listed_the_newest_first_and_by_state(client):
    made = [(await client.submit_batch(SOURCES[:1])).batch_id for _ in range(3)]
    await client.cancel_batch(made[1])
    assert [b.batch_id async for b in client.list_batches()] == made[::-1]
    assert [b.batch_id async for b in client.list_batches("CANCELLED")] == [made[1]]
    assert [b.batch_id async for b in client.list_batches("QUEUED")] == [made[2], made[0]]


async def test_cancel_retry_delete(client):
    batch = await client.submit_batch(SOURCES)
    with pytest.raises(BatchRunning):
        await client.delete_batch(batch.batch_id)
    with pytest.raises(BatchRunning):
        await client.retry_batch(batch.batch_id)
    cancelled = await client.cancel_batch(batch.batch_id)
    assert (cancelled.state, cancelled.pending_count) == ("CANCELLED", 5)
    assert (await client.cancel_batch(batch.batch_id)).state == "CANCELLED"
    await work()
    assert (await client.get_batch(batch.batch_id)).pending_count == 5
    assert (await client.retry_batch(batch.batch_id)).state == "QUEUED"
    await work(bad=frozenset({0}))
    assert (await client.retry_batch(batch.batch_id)).pending_count == 1
    await work()
    done = await client.get_batch(batch.batch_id)
    assert (done.state, done.succeeded_count) == ("COMPLETED", 5)
    await client.delete_batch(batch.batch_id)
    for call in (client.get_batch, client.cancel_batch, client.retry_batch, client.delete_batch):
        with pytest.raises(BatchNotFound):
            await call(batch.batch_id)


async def test_watching_ends_with_the_batch(client):
    batch = await client.submit_batch(SOURCES)
    watching = asyncio.create_task(collected(client.watch_batch(batch.batch_id)))
    await asyncio.sleep(0.5)
    await work()
    seen = await asyncio.wait_for(watching, 10)
    assert (seen[0].state, seen[-1].state) == ("QUEUED", "COMPLETED")
    assert [b.has_ended for b in seen].count(True) == 1
    with pytest.raises(BatchNotFound):
        await collected(client.watch_batch("b-none"))


async def test_a_watcher_of_a_server_that_stops_asks_another(settings, server):
    stub, headers = await stub_of(server)
    async with await server.client() as client:
        batch = await client.submit_batch(SOURCES)
    call = stub.WatchBatch(batch_pb2.WatchBatchRequest(batch_id=batch.batch_id), metadata=headers)
    assert not (await call.read()).done
    server.backend.refusing.set()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert from_rpc_error(caught.value).reason == "DRAINING"


async def test_exports_have_a_line_for_each_item(client):
    batch = await client.submit_batch(SOURCES)
    await work(bad=frozenset({1}))
    text = b"".join(await collected(client.export_batch(batch.batch_id))).decode()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["item_id"] for line in lines] == list("01234")
    assert [line["error_reason"] for line in lines][:2] == [None, "IMAGE_UNDECODABLE"]
    text = b"".join(await collected(client.export_batch(batch.batch_id, "csv"))).decode()
    assert text.count("\r\n") == 6
    with pytest.raises(InvalidRequest, match="format"):
        await collected(client.export_batch(batch.batch_id, "xlsx"))
    with pytest.raises(BatchNotFound):
        await collected(client.export_batch("b-none"))


async def test_viewers_may_look_only(server, client):
    batch = await client.submit_batch(SOURCES)
    async with await server.client(Role.VIEWER) as viewer:
        assert (await viewer.get_batch(batch.batch_id)).item_count == 5
        assert await collected(viewer.batch_results(batch.batch_id)) == []
        assert len(await collected(viewer.list_batches())) == 1
        for call in (viewer.cancel_batch, viewer.retry_batch, viewer.delete_batch):
            with pytest.raises(RoleInsufficient):
                await call(batch.batch_id)
        with pytest.raises(RoleInsufficient):
            await viewer.submit_batch(SOURCES)


async def test_an_upload_that_breaks_off_leaves_nothing(server, client):
    stub, headers = await stub_of(server)
    call = stub.UploadBatch(metadata=headers)
    await call.write(batch_pb2.UploadBatchRequest(file={"filename": "a", "chunk": PICTURES[0]}))
    await asyncio.sleep(0.3)
    call.cancel()
    await asyncio.sleep(0.3)
    assert await collected(client.list_batches()) == []
    with pytest.raises(FileNotFoundError):
        await client.submit_batch(["/nowhere.jpg"])
    with pytest.raises(TypeError):
        await client.submit_batch([3])
    assert await collected(client.list_batches()) == []


async def test_silence_ends_an_upload(settings):
    hasty = settings.server.model_copy(update={"upload_idle_s": 0.3})
    async with running_server(settings.model_copy(update={"server": hasty})) as server:
        stub, headers = await stub_of(server)
        call = stub.UploadBatch(metadata=headers)
        for _ in range(4):  # longer than the bound altogether
            file = {"filename": "a", "chunk": PICTURES[0]}
            await call.write(batch_pb2.UploadBatchRequest(file=file))
            await asyncio.sleep(0.2)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        error = from_rpc_error(caught.value)
        assert isinstance(error, DeadlineExceeded)
        assert "nothing came for 0.3 seconds" in error.message


def in_thread(server_address, key, sources):
    with ImageCategorizationClient(key, server_address) as client:
        batch = client.submit_batch(sources)
        seen = list(client.watch_batch(batch.batch_id))
        found = list(client.batch_results(batch.batch_id))
        exported = b"".join(client.export_batch(batch.batch_id))
        listed = [b.batch_id for b in client.list_batches("COMPLETED")]
        client.delete_batch(batch.batch_id)
        return batch, seen, found, exported, listed


async def test_the_ordinary_client_does_the_same(server, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, content in SOURCES:
        (folder / name).write_bytes(content)
    key = await server.key(Role.CLASSIFIER)
    calls = asyncio.create_task(asyncio.to_thread(in_thread, server.address, key, folder))
    while not calls.done():
        await work()
        await asyncio.sleep(0.05)
    batch, seen, found, exported, listed = await calls
    assert seen[-1].state == "COMPLETED"
    assert Counter(r.filename for r in found) == Counter(map(str, folder.iterdir()))
    assert exported.count(b"\n") == 5
    assert listed == [batch.batch_id]


@pytest.mark.parametrize("kind", ["ordinary", "asyncio"])
async def test_an_upload_whose_sources_fail_makes_no_batch(server, kind):
    def broken():
        yield SOURCES[0]
        raise ZeroDivisionError

    key = await server.key(Role.CLASSIFIER)

    def ordinarily():
        with ImageCategorizationClient(key, server.address) as client:
            client.submit_batch(broken())

    async with AsyncImageCategorizationClient(key, server.address) as client:
        is_ordinary = kind == "ordinary"
        with pytest.raises(ZeroDivisionError):
            await (asyncio.to_thread(ordinarily) if is_ordinary else client.submit_batch(broken()))
        await asyncio.sleep(0.3)
        assert await collected(client.list_batches()) == []


async def test_classify_batch_yields_results_and_tells_of_a_cancellation(client):
    async def classify():
        return [result.filename async for result in client.classify_batch(SOURCES)]

    working = asyncio.create_task(classify())
    while not working.done():
        await work()
        await asyncio.sleep(0.05)
    assert await working == [name for name, _ in SOURCES]

    working = asyncio.create_task(classify())
    await asyncio.sleep(0.5)
    (batch,) = await collected(client.list_batches("QUEUED"))
    await client.cancel_batch(batch.batch_id)
    with pytest.raises(CategorizerError, match="CANCELLED: 5 items have no outcome"):
        await working
