"""How batches come in over gRPC, what is refused, and what a cancelled upload leaves."""

import asyncio
from itertools import count

import grpc
import pytest
from image_categorizer import (
    AsyncImageCategorizationClient,
    BatchTooLarge,
    CategoryNotFound,
    DeadlineExceeded,
    ImageCategorizationClient,
    InvalidRequest,
    ModelNotFound,
    RequestIdReused,
)
from image_categorizer._statuses import from_rpc_error
from image_categorizer.v1 import batch_pb2
from image_categorizer_server.domain.access import Role

from tests.integration.conftest import running_server
from tests.support.batch_tools import PICTURES, SOURCES, all_of, batch_stub, do_all
from tests.support.polling import elapsed


async def test_an_upload_is_a_batch_that_waits(client):
    batch = await client.batches.submit(SOURCES, top_k=3, priority=2)
    assert batch.batch_id.startswith("b-")
    assert (batch.state, batch.item_count, batch.pending_count) == ("QUEUED", 5, 5)
    assert (batch.start_time, batch.end_time, batch.failures) == (None, None, ())
    assert await client.batches.get(batch.batch_id) == batch


async def test_a_request_id_makes_submitting_idempotent(client):
    first = await client.batches.submit(SOURCES, request_id="once")
    assert (await client.batches.submit(SOURCES, request_id="once")).batch_id == first.batch_id
    with pytest.raises(RequestIdReused):
        await client.batches.submit(SOURCES[:2], request_id="once")
    with pytest.raises(RequestIdReused):
        await client.batches.submit(SOURCES, request_id="once", top_k=1)
    assert len(await all_of(client.batches.list())) == 1


async def test_create_batch_takes_bytes_and_addresses(server):
    stub, headers = await batch_stub(server)
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
    await do_all(bad=frozenset({0, 1, 2}))
    done = await stub.GetBatch(batch_pb2.GetBatchRequest(batch_id=batch.batch_id), metadata=headers)
    assert [f.filename for f in done.failures] == ["a.jpg", "1", "c d.jpg"]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"items": []}, InvalidRequest, "items: must have 1 to"),
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
async def test_wrong_batches_are_refused_without_a_trace(server, client, change, error, words):
    stub, headers = await batch_stub(server)
    fields = {"items": [{"image": PICTURES[0]}], **change}
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.CreateBatch(batch_pb2.CreateBatchRequest(**fields), metadata=headers)
    with pytest.raises(error, match=words):
        raise from_rpc_error(caught.value)
    assert await all_of(client.batches.list()) == []


async def test_what_is_too_large_or_empty_fails_as_an_item(settings):
    small = settings.model_copy(update={"max_image_size_mb": 0.01})
    async with running_server(small) as server, await server.client() as client:
        sources = [("a", PICTURES[0]), ("b", bytes(50_000)), ("c", b""), ("d", PICTURES[1])]
        batch = await client.batches.submit(sources)
        assert (batch.item_count, batch.failed_count) == (4, 2)
        reasons = [(f.filename, f.error.reason) for f in batch.failures]
        assert reasons == [("b", "IMAGE_TOO_LARGE"), ("c", "IMAGE_UNDECODABLE")]


async def test_a_batch_has_a_most_of_items(settings):
    few = settings.batch.model_copy(update={"max_items": 3})
    settings = settings.model_copy(update={"batch": few})
    async with running_server(settings) as server, await server.client() as client:
        assert (await client.server_info()).limits.max_batch_items == 3
        with pytest.raises(BatchTooLarge, match="at most 3"):
            await client.batches.submit(SOURCES)
        assert await all_of(client.batches.list()) == []


async def test_an_upload_refused_while_it_sends_says_why(settings):
    few = settings.batch.model_copy(update={"max_items": 3})
    settings = settings.model_copy(update={"batch": few})
    async with running_server(settings) as server, await server.client() as client:
        # In about one call of six the refusal arrives while a message is on its way.
        for _ in range(30):
            endless = ((f"{number}.jpg", PICTURES[0]) for number in count())
            with pytest.raises(BatchTooLarge, match="at most 3"):
                await client.batches.submit(endless)


async def test_an_upload_that_is_cancelled_leaves_nothing(server, client):
    stub, headers = await batch_stub(server)
    call = stub.UploadBatch(metadata=headers)
    await call.write(batch_pb2.UploadBatchRequest(file={"filename": "a", "chunk": PICTURES[0]}))
    await elapsed(0.3)
    call.cancel()
    await elapsed(0.3)
    assert await all_of(client.batches.list()) == []
    with pytest.raises(FileNotFoundError):
        await client.batches.submit(["/nowhere.jpg"])
    with pytest.raises(TypeError):
        await client.batches.submit([3])
    assert await all_of(client.batches.list()) == []


async def test_silence_ends_an_upload(settings):
    hasty = settings.server.model_copy(update={"upload_idle_s": 0.3})
    async with running_server(settings.model_copy(update={"server": hasty})) as server:
        stub, headers = await batch_stub(server)
        call = stub.UploadBatch(metadata=headers)
        for _ in range(4):  # longer than the bound altogether
            file = {"filename": "a", "chunk": PICTURES[0]}
            await call.write(batch_pb2.UploadBatchRequest(file=file))
            await elapsed(0.2)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        error = from_rpc_error(caught.value)
        assert isinstance(error, DeadlineExceeded)
        assert "nothing arrived for 0.3 seconds" in error.message


@pytest.mark.parametrize("kind", ["ordinary", "asyncio"])
async def test_an_upload_with_failing_sources_creates_no_batch(server, kind):
    def broken():
        yield SOURCES[0]
        raise ZeroDivisionError

    key = await server.key(Role.CLASSIFIER)

    def ordinarily():
        with ImageCategorizationClient(key, server.address) as client:
            client.batches.submit(broken())

    async with AsyncImageCategorizationClient(key, server.address) as client:
        is_ordinary, submit = kind == "ordinary", client.batches.submit
        with pytest.raises(ZeroDivisionError):
            await (asyncio.to_thread(ordinarily) if is_ordinary else submit(broken()))
        await elapsed(0.3)
        assert await all_of(client.batches.list()) == []
