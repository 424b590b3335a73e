"""UploadBatch: files, one after the other, on one call.

    config? ─▶ file ─▶ chunk ─▶ chunk ─▶ file ─▶ …        one message is in memory at a time

The consumer of the items may stop reading a file at any point; the rest of it is skipped.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Self

from image_categorizer.v1 import batch_pb2

from image_categorizer_server.errors import InvalidRequest
from image_categorizer_server.rpc.batch.archive import ArchiveLimits, items_of
from image_categorizer_server.rpc.batch.validation import checked_filename
from image_categorizer_server.rpc.options import wrong_blur
from image_categorizer_server.rpc.validation import raise_if_any
from image_categorizer_server.services.upload import IgnoredFile, NewItem

Request = batch_pb2.UploadBatchRequest


class FileStream:
    """Reads the messages of one call as a configuration and files."""

    def __init__(
        self,
        requests: AsyncIterator[Request],
        readmit: Callable[[], Awaitable[None]],
        limits: ArchiveLimits,
    ) -> None:
        """Prepares to read.

        Args:
            requests: what the client sends.
            readmit: is awaited before each file; raises if the caller is no longer admitted.
            limits: of a zip file.
        """
        self._requests = requests
        self._readmit = readmit
        self._limits = limits
        self._next: Request | None = None

    async def config(self) -> batch_pb2.BatchConfig:
        """Returns the configuration; an empty one if the client sent none.

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

    async def items(self) -> AsyncGenerator[NewItem | IgnoredFile]:
        """Yields the files, also those in zip files. Call `config` first.

        Raises:
            InvalidRequest: a message has the wrong kind, a file has no name, or a zip file is
                invalid.
            BatchTooLarge: a zip file is too large.
        """
        while (message := self._next) is not None:
            if message.WhichOneof("message") != "file":
                raise InvalidRequest.of([("file", "is required before chunks")])
            if not message.file.filename:
                raise InvalidRequest.of([("file.filename", "is required")])
            await self._readmit()
            name = checked_filename(message.file.filename, "file.filename")
            blur = tuple(message.file.blur)
            raise_if_any(wrong_blur(blur, is_kept=True), "file.")
            content = FileContent(self._chunk, message.file.chunk)
            del message
            async with aclosing(items_of("file", name, "", content, self._limits)) as items:
                async for item in items:
                    yield replace(item, blur=blur) if isinstance(item, NewItem) else item
            async for _ in content:
                pass  # skips the rest

    async def _chunk(self) -> bytes | None:
        """Returns the next chunk of the current file; None at its end."""
        self._next = message = await anext(self._requests, None)
        if message is None or message.WhichOneof("message") == "file":
            return None
        if message.WhichOneof("message") != "chunk":
            raise InvalidRequest.of([("config", "is for the first message only")])
        return message.chunk


class FileContent:
    """The chunks of one file."""

    def __init__(self, read: Callable[[], Awaitable[bytes | None]], first: bytes = b"") -> None:
        """Prepares to read.

        Args:
            read: returns the next chunk; None at the end of the file.
            first: precedes what `read` returns.
        """
        self._read = read
        self._first = first
        self._has_ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._first:
            first, self._first = self._first, b""
            return first
        chunk = None if self._has_ended else await self._read()
        if chunk is None:
            self._has_ended = True
            raise StopAsyncIteration
        return chunk
