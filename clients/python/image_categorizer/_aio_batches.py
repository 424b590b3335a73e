"""Batches for asyncio."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import suppress
from typing import Unpack

import grpc

from image_categorizer import _batches
from image_categorizer._aio_call import AsyncCaller
from image_categorizer._batches import (
    Batch,
    BatchOptions,
    BatchProgress,
    BatchResult,
    ExportFormat,
    Sources,
    State,
)
from image_categorizer._streams import MOST_BREAKS, Source, backoff_s, ended_early, is_passing
from image_categorizer.errors import CategorizerError, ImageTooLarge
from image_categorizer.statuses import from_rpc_error
from image_categorizer.v1 import batch_pb2, batch_pb2_grpc

Request = batch_pb2.UploadBatchRequest


class AsyncBatchMethods(AsyncCaller):
    """The part of `AsyncImageCategorizationClient` that is about batches."""

    _batches: "batch_pb2_grpc.BatchServiceAsyncStub"

    async def classify_batch(
        self,
        sources: Sources | AsyncIterable[Source],
        *,
        on_progress: BatchProgress | None = None,
        **options: Unpack[BatchOptions],
    ) -> AsyncIterator[BatchResult]:
        """Yields what many images show; see `ImageCategorizationClient.classify_batch`."""
        batch = await self.submit_batch(sources, **options)
        async for batch in self.watch_batch(batch.batch_id):  # noqa: B020 - the same, later
            if on_progress is not None:
                on_progress(batch)
        async for result in self.batch_results(batch.batch_id):
            yield result
        batch.raise_unless_completed()

    async def submit_batch(
        self, sources: Sources | AsyncIterable[Source], **options: Unpack[BatchOptions]
    ) -> Batch:
        """Uploads images; see `ImageCategorizationClient.submit_batch`."""
        images = _batches.expanded(sources)
        config = _batches.config_of(options)
        attempt = 0
        while True:
            attempt += 1
            try:
                return _batches.batch(await self._upload(images, config))
            except CategorizerError as error:
                is_last = attempt == _batches.MOST_UPLOADS or not _batches.is_replayable(images)
                if is_last or not is_passing(error):
                    raise
                wait_s = error.retry_after_s or backoff_s(attempt)
            await asyncio.sleep(wait_s)

    async def submit_uris(self, uris: Iterable[str], **options: Unpack[BatchOptions]) -> Batch:
        """Submits images that the server fetches; see `ImageCategorizationClient.submit_uris`."""
        request = _batches.uris_request(uris, _batches.config_of(options))
        try:
            return _batches.batch(await self._call(self._batches.CreateBatch, request))
        except ImageTooLarge as error:
            raise _batches.uris_refused(error) from None

    async def get_batch(self, batch_id: str) -> Batch:
        """Returns one batch; see `ImageCategorizationClient.get_batch`."""
        request = batch_pb2.GetBatchRequest(batch_id=batch_id)
        return _batches.batch(await self._call(self._batches.GetBatch, request))

    async def list_batches(self, state: State | None = None) -> AsyncIterator[Batch]:
        """Yields the tenant's batches; see `ImageCategorizationClient.list_batches`."""
        request = _batches.list_request(state)
        async for page in self._pages(self._batches.ListBatches, request):
            for wire in page.batches:
                yield _batches.batch(wire)

    async def cancel_batch(self, batch_id: str) -> Batch:
        """Ends a batch early; see `ImageCategorizationClient.cancel_batch`."""
        request = batch_pb2.CancelBatchRequest(batch_id=batch_id)
        return _batches.batch(await self._call(self._batches.CancelBatch, request))

    async def retry_batch(self, batch_id: str) -> Batch:
        """Begins failed items again; see `ImageCategorizationClient.retry_batch`."""
        request = batch_pb2.RetryBatchRequest(batch_id=batch_id)
        return _batches.batch(await self._call(self._batches.RetryBatch, request))

    async def delete_batch(self, batch_id: str) -> None:
        """Removes an ended batch; see `ImageCategorizationClient.delete_batch`."""
        request = batch_pb2.DeleteBatchRequest(batch_id=batch_id)
        await self._call(self._batches.DeleteBatch, request)

    async def batch_results(self, batch_id: str) -> AsyncIterator[BatchResult]:
        """Yields the outcomes that there are; see `ImageCategorizationClient.batch_results`."""
        request = batch_pb2.ListBatchResultsRequest(batch_id=batch_id, page_size=_batches.PAGE_SIZE)
        async for page in self._pages(self._batches.ListBatchResults, request):
            for wire in page.results:
                yield _batches.result(wire)

    async def export_batch(
        self,
        batch_id: str,
        format: ExportFormat = "jsonl",  # noqa: A002 - the contract's name
    ) -> AsyncIterator[bytes]:
        """Yields the outcomes as a file; see `ImageCategorizationClient.export_batch`."""
        request = batch_pb2.ExportBatchResultsRequest(batch_id=batch_id, format=format)
        call = self._batches.ExportBatchResults(request, metadata=self._headers)
        try:
            async for body in call:
                yield body.data
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        finally:
            call.cancel()

    async def watch_batch(self, batch_id: str) -> AsyncIterator[Batch]:
        """Yields a batch whenever it changes; see `ImageCategorizationClient.watch_batch`."""
        breaks = 0
        while True:
            try:
                async for batch in self._watch(batch_id):
                    breaks = 0
                    yield batch
                    if batch.has_ended:
                        return
                raise ended_early()
            except CategorizerError as error:
                breaks += 1
                if breaks == MOST_BREAKS or not is_passing(error):
                    raise
                wait_s = error.retry_after_s or backoff_s(breaks)
            await asyncio.sleep(wait_s)

    async def _watch(self, batch_id: str) -> AsyncIterator[Batch]:
        request = batch_pb2.WatchBatchRequest(batch_id=batch_id)
        call = self._batches.WatchBatch(request, metadata=self._headers)
        try:
            async for response in call:
                yield _batches.batch(response.batch)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        finally:
            call.cancel()

    async def _upload(
        self, sources: Iterable[Source] | AsyncIterable[Source], config: batch_pb2.BatchConfig
    ) -> batch_pb2.Batch:
        call = self._batches.UploadBatch(metadata=self._headers)
        try:
            # A call that has ended says so when it is awaited, and says why.
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await call.write(Request(config=config))
                async for message in _messages(sources):
                    await call.write(message)
                await call.done_writing()
            return await call
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        finally:
            # An upload that only ended would be a batch of half the images.
            call.cancel()


async def _messages(
    sources: Iterable[Source] | AsyncIterable[Source],
) -> AsyncIterator[Request]:
    if isinstance(sources, AsyncIterable):
        async for source in sources:
            async for message in _pieces(source):
                yield message
    else:
        for source in sources:
            async for message in _pieces(source):
                yield message


async def _pieces(source: Source) -> AsyncIterator[Request]:
    pieces: Iterator[Request] = _batches.pieces(source)
    if isinstance(source, tuple):
        for message in pieces:
            yield message
        return
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece
