"""Batches for ordinary code."""

import threading
import time
from collections.abc import Iterable, Iterator
from typing import Unpack

import grpc

from image_categorizer import _batches
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
from image_categorizer._sync_call import Caller
from image_categorizer.errors import CategorizerError, ImageTooLarge
from image_categorizer.statuses import from_rpc_error
from image_categorizer.v1 import batch_pb2, batch_pb2_grpc


class BatchMethods(Caller):
    """The part of `ImageCategorizationClient` that is about batches."""

    _batches: batch_pb2_grpc.BatchServiceStub

    def classify_batch(
        self,
        sources: Sources,
        *,
        on_progress: BatchProgress | None = None,
        **options: Unpack[BatchOptions],
    ) -> Iterator[BatchResult]:
        """Yields what many images show: submits a batch, waits for its end, reads its results.

        The batch goes on whatever happens here; its name is in what `on_progress` hears.

        Args:
            sources: as for `submit_batch`.
            on_progress: hears of the batch whenever it changes.
            options: as for `submit_batch`.

        Raises:
            CategorizerError: while iterating; the batch could not be submitted, or was cancelled.
                What is wrong with one image is its result's `error`.
        """
        batch = self.submit_batch(sources, **options)
        for batch in self.watch_batch(batch.batch_id):  # noqa: B020 - the same, later
            if on_progress is not None:
                on_progress(batch)
        yield from self.batch_results(batch.batch_id)
        batch.raise_unless_completed()

    def submit_batch(self, sources: Sources, **options: Unpack[BatchOptions]) -> Batch:
        """Uploads images, and returns once the server keeps them: the rest needs nobody.

        Files are read one after the other, as fast as the server takes them.  Where the call
        breaks and the sources can be read again (a folder, a list), the upload is begun again; it
        makes one batch all the same.

        Args:
            sources: a folder; or files' paths and (name, encoded bytes), from any iterable.
            options: how to classify them, `webhook_url`, `request_id`, `priority`; see
                `BatchOptions`.

        Raises:
            OSError: a file cannot be read; there is no batch then.
            CategorizerError: as the module `errors` says.
        """
        images = _batches.expanded(sources)
        assert isinstance(images, Iterable)
        config = _batches.config_of(options)
        attempt = 0
        while True:
            attempt += 1
            try:
                return _batches.batch(self._upload(images, config))
            except CategorizerError as error:
                is_last = attempt == _batches.MOST_UPLOADS or not _batches.is_replayable(images)
                if is_last or not is_passing(error):
                    raise
                wait_s = error.retry_after_s or backoff_s(attempt)
            time.sleep(wait_s)

    def submit_uris(self, uris: Iterable[str], **options: Unpack[BatchOptions]) -> Batch:
        """Submits images that the server fetches: `https://`, `s3://`, `gs://` or `az://`.

        Raises:
            BatchTooLarge: they are more than one message holds, 28 MB by default.
            CategorizerError: as the module `errors` says.
        """
        request = _batches.uris_request(uris, _batches.config_of(options))
        try:
            return _batches.batch(self._call(self._batches.CreateBatch, request))
        except ImageTooLarge as error:
            raise _batches.uris_refused(error) from None

    def get_batch(self, batch_id: str) -> Batch:
        """Returns one batch.

        Raises:
            BatchNotFound: there is none of that name.
        """
        request = batch_pb2.GetBatchRequest(batch_id=batch_id)
        return _batches.batch(self._call(self._batches.GetBatch, request))

    def list_batches(self, state: State | None = None) -> Iterator[Batch]:
        """Yields the tenant's batches, the newest first; of one state, or of all."""
        request = _batches.list_request(state)
        for page in self._pages(self._batches.ListBatches, request):
            yield from map(_batches.batch, page.batches)

    def cancel_batch(self, batch_id: str) -> Batch:
        """Ends a batch early; what has ended stays as it is.

        Raises:
            BatchNotFound: there is none of that name.
        """
        request = batch_pb2.CancelBatchRequest(batch_id=batch_id)
        return _batches.batch(self._call(self._batches.CancelBatch, request))

    def retry_batch(self, batch_id: str) -> Batch:
        """Begins the failed items of an ended batch again, and those a cancellation left.

        Raises:
            BatchNotFound: there is none of that name.
            BatchRunning: it has not ended.
        """
        request = batch_pb2.RetryBatchRequest(batch_id=batch_id)
        return _batches.batch(self._call(self._batches.RetryBatch, request))

    def delete_batch(self, batch_id: str) -> None:
        """Removes an ended batch with its results and images.

        Raises:
            BatchNotFound: there is none of that name.
            BatchRunning: it has not ended; cancel it first.
        """
        request = batch_pb2.DeleteBatchRequest(batch_id=batch_id)
        self._call(self._batches.DeleteBatch, request)

    def batch_results(self, batch_id: str) -> Iterator[BatchResult]:
        """Yields the outcomes that there are, by item; while the batch runs too.

        Raises:
            BatchNotFound: there is none of that name.
        """
        request = batch_pb2.ListBatchResultsRequest(batch_id=batch_id, page_size=_batches.PAGE_SIZE)
        for page in self._pages(self._batches.ListBatchResults, request):
            yield from map(_batches.result, page.results)

    def export_batch(self, batch_id: str, format: ExportFormat = "jsonl") -> Iterator[bytes]:  # noqa: A002 - the contract's name
        """Yields the outcomes as a file, in pieces: a line for each item.

        Raises:
            BatchNotFound: there is none of that name.
        """
        request = batch_pb2.ExportBatchResultsRequest(batch_id=batch_id, format=format)
        call = self._batches.ExportBatchResults(request, metadata=self._headers)
        try:
            for body in call:
                yield body.data
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        finally:
            call.cancel()

    def watch_batch(self, batch_id: str) -> Iterator[Batch]:
        """Yields a batch whenever it changes, at most once a second; the last has ended.

        Raises:
            BatchNotFound: there is none of that name.
            CategorizerError: the server could not be asked ten times in a row.
        """
        breaks = 0
        while True:
            try:
                for batch in self._watch(batch_id):
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
            time.sleep(wait_s)

    def _watch(self, batch_id: str) -> Iterator[Batch]:
        request = batch_pb2.WatchBatchRequest(batch_id=batch_id)
        call = self._batches.WatchBatch(request, metadata=self._headers)
        try:
            for response in call:
                yield _batches.batch(response.batch)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        finally:
            call.cancel()

    def _upload(self, sources: Iterable[Source], config: batch_pb2.BatchConfig) -> batch_pb2.Batch:
        upload = _Upload(sources, config)
        call = self._batches.UploadBatch.future(upload.messages(), metadata=self._headers)
        upload.begin(call)
        try:
            return call.result()
        except (grpc.RpcError, grpc.FutureCancelledError) as error:
            if upload.error is not None:
                raise upload.error from None
            if isinstance(error, grpc.RpcError):
                raise from_rpc_error(error) from error
            raise
        finally:
            call.cancel()


class _Upload:
    """The messages of one upload, which gRPC asks for in a thread of its own."""

    def __init__(self, sources: Iterable[Source], config: batch_pb2.BatchConfig) -> None:
        self._sources = sources
        self._config = config
        self._has_begun = threading.Event()
        self._call: grpc.Future[batch_pb2.Batch] | None = None
        self.error: Exception | None = None
        """What the sources, or reading them, raised."""

    def begin(self, call: "grpc.Future[batch_pb2.Batch]") -> None:
        """Tells which call the messages are for."""
        self._call = call
        self._has_begun.set()

    def messages(self) -> Iterator[batch_pb2.UploadBatchRequest]:
        """Yields the configuration and the files."""
        yield batch_pb2.UploadBatchRequest(config=self._config)
        try:
            for source in self._sources:
                yield from _batches.pieces(source)
        except Exception as error:  # noqa: BLE001 - raised where the caller sees it
            self.error = error
            # An upload that only ended here would be a batch of half the images.
            self._has_begun.wait()
            assert self._call is not None
            self._call.cancel()
