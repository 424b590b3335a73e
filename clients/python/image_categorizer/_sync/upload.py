"""One upload by threads.  Its twin in `_aio` is written by hand."""

import threading
from collections.abc import Iterable, Iterator

import grpc

from image_categorizer import _inputs
from image_categorizer._statuses import from_rpc_error
from image_categorizer._sync.connection import Connection
from image_categorizer._values import Source
from image_categorizer.v1 import batch_pb2


def upload(
    connection: Connection, sources: Iterable[Source], config: batch_pb2.BatchConfig
) -> batch_pb2.Batch:
    """Returns the batch that the server made of the sources.

    Raises:
        CategorizerError: the call failed.
        Exception: what the sources raised, or reading them; there is no batch then.
    """
    messages = _Messages(sources, config)
    headers = connection.headers()
    call = connection.stubs.batches.UploadBatch.future(iter(messages), metadata=headers)
    messages.begin(call)
    try:
        return call.result()
    except (grpc.RpcError, grpc.FutureCancelledError) as error:
        if messages.error is not None:
            raise messages.error from None
        if isinstance(error, grpc.RpcError):
            raise from_rpc_error(error) from error
        raise
    finally:
        call.cancel()


class _Messages:
    """The messages of one upload, which gRPC takes in a thread of its own."""

    def __init__(self, sources: Iterable[Source], config: batch_pb2.BatchConfig) -> None:
        self._sources = sources
        self._config = config
        self._has_begun = threading.Event()
        self._call: grpc.Future[batch_pb2.Batch] | None = None
        self.error: Exception | None = None
        """What the sources raised, or reading them."""

    def begin(self, call: "grpc.Future[batch_pb2.Batch]") -> None:
        """Sets the call that the messages belong to."""
        self._call = call
        self._has_begun.set()

    def __iter__(self) -> Iterator[batch_pb2.UploadBatchRequest]:
        yield batch_pb2.UploadBatchRequest(config=self._config)
        try:
            for source in self._sources:
                yield from _inputs.upload_messages(source)
        except Exception as error:  # noqa: BLE001 - raised where the caller sees it
            self.error = error
            # To end normally here would create a batch of half the images.
            self._has_begun.wait()
            assert self._call is not None
            self._call.cancel()
