"""BatchService."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import grpc
from google.api import httpbody_pb2
from image_categorizer.v1 import batch_pb2, batch_pb2_grpc

from image_categorizer_server.domain.batch import Batch, BatchConfig, BatchState, ItemResult
from image_categorizer_server.errors import Draining, InvalidRequest
from image_categorizer_server.paging import Page
from image_categorizer_server.rpc import pages
from image_categorizer_server.rpc.batch import convert
from image_categorizer_server.rpc.batch.archive import ArchiveLimits
from image_categorizer_server.rpc.batch.export import FORMATS
from image_categorizer_server.rpc.batch.form import Form
from image_categorizer_server.rpc.batch.json_batch import JsonBatch
from image_categorizer_server.rpc.batch.upload import FileStream
from image_categorizer_server.rpc.batch.validation import (
    MAX_VIOLATIONS,
    BatchLimits,
    batch_config,
    filename,
    image_uri,
    name_of,
    required_id,
)
from image_categorizer_server.rpc.call import current_call, current_tenant, readmission
from image_categorizer_server.rpc.encoding import GZIP, unpacked_messages
from image_categorizer_server.rpc.export import file_format, pieces
from image_categorizer_server.rpc.json_body import is_json
from image_categorizer_server.rpc.options import authorize_store, copy_fields, wrong_blur
from image_categorizer_server.rpc.validation import raise_if_any
from image_categorizer_server.services.batch import Batches
from image_categorizer_server.services.upload import IgnoredFile, NewItem
from image_categorizer_server.tasks import CLEAN_UP_S, cancel_until_ended, detached

Context = grpc.aio.ServicerContext
# A watcher receives the batch again after this time: gateways close silent connections.
REPEAT_S = 20.0


class BatchServicer(batch_pb2_grpc.BatchServiceServicer):
    """Serves BatchService."""

    def __init__(
        self,
        batches: Batches,
        limits: BatchLimits,
        archives: ArchiveLimits,
        max_json_bytes: int,
        refusing: asyncio.Event,
    ) -> None:
        self._batches = batches
        self._limits = limits
        self._archives = archives
        self._json = JsonBatch(max_json_bytes, limits.max_items)
        self._refusing = refusing

    async def CreateBatch(
        self,
        request: batch_pb2.CreateBatchRequest,
        context: Context[batch_pb2.CreateBatchRequest, batch_pb2.Batch],
    ) -> batch_pb2.Batch:
        return await self._create_from_message(request)

    async def UploadBatch(
        self,
        requests: AsyncIterator[batch_pb2.UploadBatchRequest],
        context: Context[batch_pb2.UploadBatchRequest, batch_pb2.Batch],
    ) -> batch_pb2.Batch:
        files = FileStream(requests, readmission(), self._archives)
        wire = await files.config()
        config = batch_config(wire, self._limits, "config.", "config.options.")
        return await self._create(config, files.items())

    async def UploadBatchForm(
        self,
        requests: AsyncIterator[batch_pb2.UploadBatchFormRequest],
        context: Context[batch_pb2.UploadBatchFormRequest, batch_pb2.Batch],
    ) -> batch_pb2.Batch:
        if current_call.get().body_encoding == GZIP:
            requests = unpacked_messages(
                requests, self._archives.max_ratio, self._archives.max_image_bytes
            )
        first = await anext(requests, None)
        if first is None:
            raise InvalidRequest.of([("body", "is required")])
        requests = _with_first(first, requests)
        if is_json(first.body.content_type):
            return await self._create_from_message(await self._json.read(requests))
        form = Form(requests, readmission(), self._archives)
        config = batch_config(await form.config(), self._limits)
        return await self._create(config, form.items())

    async def GetBatch(
        self,
        request: batch_pb2.GetBatchRequest,
        context: Context[batch_pb2.GetBatchRequest, batch_pb2.Batch],
    ) -> batch_pb2.Batch:
        return convert.batch(
            await self._batches.get(current_tenant(), required_id(request.batch_id))
        )

    async def ListBatches(
        self,
        request: batch_pb2.ListBatchesRequest,
        context: Context[batch_pb2.ListBatchesRequest, batch_pb2.ListBatchesResponse],
    ) -> batch_pb2.ListBatchesResponse:
        tenant_id, state = current_tenant(), _state(request.state)

        async def batches(size: int, token: str) -> Page[Batch]:
            return await self._batches.list(tenant_id, size, token, state)

        page = await pages.read(request, batches, convert.batch, self._limits.max_page_bytes)
        return batch_pb2.ListBatchesResponse(
            batches=page.messages, next_page_token=page.next_page_token
        )

    async def CancelBatch(
        self,
        request: batch_pb2.CancelBatchRequest,
        context: Context[batch_pb2.CancelBatchRequest, batch_pb2.Batch],
    ) -> batch_pb2.Batch:
        return convert.batch(
            await self._batches.cancel(current_tenant(), required_id(request.batch_id))
        )

    async def RetryBatch(
        self,
        request: batch_pb2.RetryBatchRequest,
        context: Context[batch_pb2.RetryBatchRequest, batch_pb2.Batch],
    ) -> batch_pb2.Batch:
        return convert.batch(
            await self._batches.retry(current_tenant(), required_id(request.batch_id))
        )

    async def DeleteBatch(
        self,
        request: batch_pb2.DeleteBatchRequest,
        context: Context[batch_pb2.DeleteBatchRequest, batch_pb2.DeleteBatchResponse],
    ) -> batch_pb2.DeleteBatchResponse:
        await self._batches.delete(current_tenant(), required_id(request.batch_id))
        return batch_pb2.DeleteBatchResponse()

    async def ListBatchResults(
        self,
        request: batch_pb2.ListBatchResultsRequest,
        context: Context[batch_pb2.ListBatchResultsRequest, batch_pb2.ListBatchResultsResponse],
    ) -> batch_pb2.ListBatchResultsResponse:
        tenant_id, batch_id = current_tenant(), required_id(request.batch_id)

        async def results(size: int, token: str) -> Page[ItemResult]:
            return await self._batches.results(tenant_id, batch_id, size, token)

        page = await pages.read(request, results, convert.result, self._limits.max_page_bytes)
        return batch_pb2.ListBatchResultsResponse(
            results=page.messages, next_page_token=page.next_page_token
        )

    async def ExportBatchResults(
        self,
        request: batch_pb2.ExportBatchResultsRequest,
        context: Context[batch_pb2.ExportBatchResultsRequest, httpbody_pb2.HttpBody],
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        form = file_format(FORMATS, request.format, bom=request.bom)
        batch = await self._batches.get(current_tenant(), required_id(request.batch_id))
        name = f"{batch.batch_id}.{form.suffix}"
        await context.send_initial_metadata(
            (("content-disposition", f'attachment; filename="{name}"'),)
        )
        results = self._batches.export(current_tenant(), batch.batch_id)
        async for piece in pieces(results, form):
            yield httpbody_pb2.HttpBody(content_type=form.content_type, data=piece)

    async def WatchBatch(
        self,
        request: batch_pb2.WatchBatchRequest,
        context: Context[batch_pb2.WatchBatchRequest, batch_pb2.WatchBatchResponse],
    ) -> AsyncIterator[batch_pb2.WatchBatchResponse]:
        readmit = readmission()
        watched = self._batches.watch(current_tenant(), required_id(request.batch_id))
        async with aclosing(self._until_refusing(watched)) as batches:
            async for batch in batches:
                await readmit()
                yield batch_pb2.WatchBatchResponse(
                    batch=convert.batch(batch), done=batch.state.has_ended
                )

    async def _create_from_message(self, request: batch_pb2.CreateBatchRequest) -> batch_pb2.Batch:
        wire = batch_pb2.BatchConfig()
        copy_fields(request, wire)
        config = batch_config(wire, self._limits, options_prefix="options.")
        self._check_items(request)
        return await self._create(config, _items(request))

    async def _create(
        self, config: BatchConfig, items: AsyncGenerator[NewItem | IgnoredFile]
    ) -> batch_pb2.Batch:
        principal = current_call.get().principal
        assert principal is not None
        authorize_store(config.options)
        async with aclosing(items):
            return convert.batch(
                await self._batches.create(principal.tenant_id, principal.actor_id, config, items)
            )

    def _check_items(self, request: batch_pb2.CreateBatchRequest) -> None:
        count, max_items = len(request.items), self._limits.max_items
        if not 1 <= count <= max_items:
            raise InvalidRequest.of([("items", f"must have 1 to {max_items} images, has {count}")])
        wrong: list[tuple[str, str]] = []
        for number, item in enumerate(request.items):
            source = item.WhichOneof("source")
            if source is None:
                wrong.append((f"items[{number}].image", "or image_uri is required"))
            elif source == "image_uri" and (text := image_uri(item.image_uri, self._limits)):
                wrong.append((f"items[{number}].image_uri", text))
            if text := filename(item.filename):
                wrong.append((f"items[{number}].filename", text))
            blur = (*request.options.blur, *item.blur) if item.blur else ()
            wrong += [(f"items[{number}].blur", text) for _, text in wrong_blur(blur, is_kept=True)]
            if len(wrong) >= MAX_VIOLATIONS:
                break
        raise_if_any(wrong)

    async def _until_refusing(self, watched: AsyncGenerator[Batch]) -> AsyncGenerator[Batch]:
        """Yields what is watched, and the last batch again if nothing changes for `REPEAT_S`.

        Raises:
            Draining: the server stops. Another one can be watched.
        """
        stopping = detached(self._refusing.wait())
        reading = detached(_next(watched))
        last: Batch | None = None
        try:
            while True:
                await asyncio.wait(
                    {reading, stopping}, timeout=REPEAT_S, return_when=asyncio.FIRST_COMPLETED
                )
                if reading.done():
                    if (last := reading.result()) is None:
                        return
                    reading = detached(_next(watched))
                elif stopping.done():
                    raise Draining("this server is stopping")
                if last is not None:
                    yield last
        finally:
            await cancel_until_ended({stopping, reading}, CLEAN_UP_S)
            await watched.aclose()


async def _with_first(
    first: batch_pb2.UploadBatchFormRequest,
    others: AsyncIterator[batch_pb2.UploadBatchFormRequest],
) -> AsyncIterator[batch_pb2.UploadBatchFormRequest]:
    yield first
    async for message in others:
        yield message


async def _next(watched: AsyncGenerator[Batch]) -> Batch | None:
    return await anext(watched, None)


async def _items(request: batch_pb2.CreateBatchRequest) -> AsyncGenerator[NewItem]:
    for number, item in enumerate(request.items):
        blur = tuple(item.blur)
        if item.WhichOneof("source") == "image":
            yield NewItem(item.filename or str(number), _once(item.image), None, blur)
        else:
            name = item.filename or name_of(item.image_uri, number)
            yield NewItem(name, None, item.image_uri, blur)


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _state(number: batch_pb2.Batch.State.ValueType) -> BatchState | None:
    if not number:
        return None
    if number not in batch_pb2.Batch.State.values():
        raise InvalidRequest.of([("state", f"{number} is not a state")])
    return BatchState(batch_pb2.Batch.State.Name(number))
