"""UploadBatch: files, one after the other, on one call.

    config? ─▶ file ─▶ chunk ─▶ chunk ─▶ file ─▶ …        one message is in memory at a time

What takes the items reads their content to its end, or leaves the rest: it is then passed over.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Self

from image_categorizer.v1 import batch_pb2

from image_categorizer_server.errors import InvalidRequest
from image_categorizer_server.rpc.batch.validation import checked_filename
from image_categorizer_server.services.upload import NewItem

Request = batch_pb2.UploadBatchRequest


class FileStream:
    """The messages of one call, as a configuration and files."""

    def __init__(
        self, requests: AsyncIterator[Request], readmit: Callable[[], Awaitable[None]]
    ) -> None:
        """Begins the call.

        Args:
            requests: what the client sends.
            readmit: asked before each file whether the caller still may.
        """
        self._requests = requests
        self._readmit = readmit
        self._next: Request | None = None

    async def config(self) -> batch_pb2.BatchConfig:
        """Returns the configuration, empty where the client sent none.

        Raises:
            InvalidRequest: the call ended before its first message.
        """
        first = await anext(self._requests, None)
        if first is None:
            raise InvalidRequest.of([("file", "is required")])
        if first.WhichOneof("message") != "config":
            self._next = first
            return batch_pb2.BatchConfig()
        self._next = await anext(self._requests, None)
        return first.config

    async def items(self) -> AsyncGenerator[NewItem]:
        """Yields the files; `config` comes first.

        Raises:
            InvalidRequest: a message is not what it must be.
        """
        while (message := self._next) is not None:
            if message.WhichOneof("message") != "file":
                raise InvalidRequest.of([("file", "is required before chunks")])
            if not message.file.filename:
                raise InvalidRequest.of([("file.filename", "is required")])
            await self._readmit()
            name = checked_filename(message.file.filename, "file.filename")
            content = _Content(self._chunk, message.file.chunk)
            del message
            yield NewItem(name, content, None)
            async for _ in content:
                pass  # what nobody wanted

    async def _chunk(self) -> bytes | None:
        """Returns the next piece of the file that was begun last; None at its end."""
        self._next = message = await anext(self._requests, None)
        if message is None or message.WhichOneof("message") == "file":
            return None
        if message.WhichOneof("message") != "chunk":
            raise InvalidRequest.of([("config", "is for the first message only")])
        return message.chunk


class _Content:
    """The pieces of one file."""

    def __init__(self, read: Callable[[], Awaitable[bytes | None]], first: bytes) -> None:
        self._read = read
        self._first: bytes | None = first
        self._has_ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        chunk = None if self._has_ended else await self._read()
        if chunk is None:
            self._has_ended = True
            raise StopAsyncIteration
        return chunk
