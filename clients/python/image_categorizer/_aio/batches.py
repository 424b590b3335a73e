"""The asyncio client's batches."""

from collections.abc import AsyncIterator, Iterable
from typing import Unpack

from image_categorizer import _inputs, _wire
from image_categorizer._aio.connection import AsyncConnection
from image_categorizer._aio.listing import listing
from image_categorizer._aio.runtime import sleep
from image_categorizer._aio.upload import upload
from image_categorizer._retries import MAX_FAILED_CALLS, Retries, ended_early, uploads_of
from image_categorizer._values import (
    AsyncSources,
    Batch,
    BatchOptions,
    BatchResult,
    BatchState,
    ExportFormat,
)
from image_categorizer.errors import BatchTooLarge, CategorizerError, ImageTooLarge
from image_categorizer.v1 import batch_pb2


class AsyncBatches:
    """The tenant's batches: `client.batches`.

    A batch classifies many images in the background. The server stores the images and the results,
    so that any process can ask for them by the `batch_id`.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def submit(self, sources: AsyncSources, **options: Unpack[BatchOptions]) -> Batch:
        """Uploads images, and returns as soon as the server has stored them all.

            batch = await client.batches.submit("photos", top_k=3)

        Files are read one after the other, as fast as the server accepts them. If the call breaks
        and the sources can be read again (a folder or a list), the upload starts again; it never
        creates a second batch.

        Args:
            sources: a folder; or an iterable of file paths and of (name, encoded bytes). A zip file
                stands for the images in it.
            options: how to classify, and `webhook_url`, `request_id`, `priority`; see
                `BatchOptions`.

        Raises:
            OSError: a file cannot be read; no batch was created.
            TypeError: `sources` is a single image, or an option is unknown.
            BatchTooLarge: there are too many images, or too many bytes.
            CategorizerError: see `image_categorizer.errors`.
        """
        images = _inputs.of_batch(sources, "batches.submit")
        config = _wire.batch_config(options)
        retries = uploads_of(images, self._connection.retry_budget)
        while True:
            try:
                return _wire.batch(await upload(self._connection, images, config))
            except CategorizerError as error:
                wait_s = retries.failed(error)
            await sleep(wait_s)

    async def submit_uris(self, uris: Iterable[str], **options: Unpack[BatchOptions]) -> Batch:
        """Submits images that the server fetches itself.

            batch = await client.batches.submit_uris(["https://example.com/cat.jpg"])

        Args:
            uris: `https://`, `s3://`, `gs://` or `az://` addresses.
            options: as for `submit`.

        Raises:
            TypeError: `uris` is a single address, or an option is unknown.
            BatchTooLarge: the addresses do not fit into one message, 28 MB by default.
            CategorizerError: see `image_categorizer.errors`.
        """
        config = _wire.batch_config(options)
        request = _wire.create_batch_request(_inputs.many(uris, "batches.submit_uris"), config)
        try:
            return _wire.batch(
                await self._connection.call(self._connection.stubs.batches.CreateBatch, request)
            )
        except ImageTooLarge as error:
            # gRPC itself refuses the message, and cannot know what is in it.
            too_large = BatchTooLarge(
                "the URIs do not fit into one message: submit several batches"
            )
            too_large.status, too_large.request_id = error.status, error.request_id
            raise too_large from None

    async def get(self, batch_id: str) -> Batch:
        """Returns one batch.

        Raises:
            BatchNotFound: there is no such batch.
        """
        request = batch_pb2.GetBatchRequest(batch_id=batch_id)
        return _wire.batch(
            await self._connection.call(self._connection.stubs.batches.GetBatch, request)
        )

    @listing
    async def list(self, state: BatchState | None = None) -> AsyncIterator[Batch]:
        """Yields the batches, the newest first.

            async for batch in client.batches.list("RUNNING"):
                print(batch.batch_id, batch.done_count, batch.item_count)

        Args:
            state: only batches in this state. Default: all.

        Raises:
            CategorizerError: see `image_categorizer.errors`.
        """
        request = _wire.list_batches_request(state)
        async for page in self._connection.pages(
            self._connection.stubs.batches.ListBatches, request
        ):
            for wire in page.batches:
                yield _wire.batch(wire)

    async def watch(self, batch_id: str) -> AsyncIterator[Batch]:
        """Yields the batch each time it changes, at most once a second, until it has ended.

            async for batch in client.batches.watch(batch_id):
                print(batch.state, batch.done_count)

        Reconnects if the connection breaks. The last batch that is yielded has ended.

        Raises:
            BatchNotFound: there is no such batch.
            CategorizerError: the server did not answer ten times in a row.
        """
        request = batch_pb2.WatchBatchRequest(batch_id=batch_id)
        retries = Retries(MAX_FAILED_CALLS)
        while True:
            try:
                method = self._connection.stubs.batches.WatchBatch
                async for response in self._connection.messages(method, request):
                    retries.succeeded()
                    yield _wire.batch(response.batch)
                    if response.done:
                        return
                raise ended_early()
            except CategorizerError as error:
                wait_s = retries.failed(error)
            await sleep(wait_s)

    @listing
    async def results(self, batch_id: str) -> AsyncIterator[BatchResult]:
        """Yields the outcomes so far, in the order of the items.

            async for result in client.batches.results(batch_id):
                print(result.filename, result.category or result.error)

        Raises:
            BatchNotFound: there is no such batch.
        """
        request = batch_pb2.ListBatchResultsRequest(batch_id=batch_id, page_size=_wire.PAGE_SIZE)
        method = self._connection.stubs.batches.ListBatchResults
        async for page in self._connection.pages(method, request):
            for wire in page.results:
                yield _wire.batch_result(wire)

    async def export(
        self,
        batch_id: str,
        format: ExportFormat = "jsonl",  # noqa: A002 - the contract's name
    ) -> AsyncIterator[bytes]:
        """Yields the outcomes so far as pieces of a file, with one line for each item.

            with open("results.csv", "wb") as file:
                async for piece in client.batches.export(batch_id, "csv"):
                    file.write(piece)

        Args:
            batch_id: the batch.
            format: `jsonl`, or `csv` with a header row.

        Raises:
            BatchNotFound: there is no such batch.
            InvalidRequest: the server does not know the format.
        """
        request = batch_pb2.ExportBatchResultsRequest(batch_id=batch_id, format=format)
        method = self._connection.stubs.batches.ExportBatchResults
        async for body in self._connection.messages(method, request):
            yield body.data

    async def cancel(self, batch_id: str) -> Batch:
        """Ends a batch early. Items that have an outcome keep it. Idempotent.

        Raises:
            BatchNotFound: there is no such batch.
        """
        request = batch_pb2.CancelBatchRequest(batch_id=batch_id)
        return _wire.batch(
            await self._connection.call(self._connection.stubs.batches.CancelBatch, request)
        )

    async def retry(self, batch_id: str) -> Batch:
        """Runs the failed items of an ended batch again, and those that a cancellation skipped.

        Raises:
            BatchNotFound: there is no such batch.
            BatchRunning: the batch has not ended.
        """
        request = batch_pb2.RetryBatchRequest(batch_id=batch_id)
        return _wire.batch(
            await self._connection.call(self._connection.stubs.batches.RetryBatch, request)
        )

    async def delete(self, batch_id: str) -> None:
        """Deletes an ended batch with its results, and its images unless another batch has them.

        Raises:
            BatchNotFound: there is no such batch.
            BatchRunning: the batch has not ended; cancel it first.
        """
        request = batch_pb2.DeleteBatchRequest(batch_id=batch_id)
        await self._connection.call(self._connection.stubs.batches.DeleteBatch, request)
