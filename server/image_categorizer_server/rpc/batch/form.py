"""UploadBatchForm: a form (RFC 7578) with any number of images and zip files, read as it arrives.

    body ─▶ parser ─▶ fields, then files ─▶ items
                           └── zip files ─▶ disk ─▶ items

One piece of the body is in memory at a time.
"""

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing

from image_categorizer.v1 import batch_pb2
from multipart import MultipartSegment, PushMultipartParser

from image_categorizer_server.errors import InvalidRequest
from image_categorizer_server.rpc.batch.archive import ArchiveLimits, items_of
from image_categorizer_server.rpc.batch.upload import FileContent
from image_categorizer_server.rpc.batch.validation import checked_filename
from image_categorizer_server.rpc.fields import Fields
from image_categorizer_server.rpc.filenames import file_name, text_of
from image_categorizer_server.rpc.forms import (
    MAX_PARTS,
    MAX_TEXT_BYTES,
    form_parser,
    invalid_if_malformed,
    is_form,
    set_text,
)
from image_categorizer_server.rpc.options import copy_fields
from image_categorizer_server.services.upload import IgnoredFile, NewItem

Request = batch_pb2.UploadBatchFormRequest
FILES = ("images[]", "images")


class Form:
    """Reads the body of one call as a configuration and files."""

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
        self._events: deque[MultipartSegment | bytes | None] = deque()
        self._parser: PushMultipartParser  # created with the boundary in the first message
        self._has_ended = False
        self._segment: MultipartSegment | None = None
        self._text_count = 0
        self._file_count = 0

    async def config(self) -> batch_pb2.BatchConfig:
        """Returns the configuration: query parameters, and the fields before the first file.

        Raises:
            InvalidRequest: the body is not a form, has no file, or has an invalid field.
        """
        first = await anext(self._requests, None)
        content_type = first.body.content_type if first else ""
        if first is None or not is_form(content_type):
            text = "must be multipart/form-data, or application/json"
            raise InvalidRequest.of([("content-type", text)])
        with invalid_if_malformed():
            self._parser = form_parser(content_type)
        self._parse(first.body.data)
        first.ClearField("body")
        fields = Fields(first, FILES)
        while (segment := await self._next_segment()) is not None and segment.name not in FILES:
            name = text_of(segment.name)
            fields.find(name)
            set_text(fields, name, await self._text())
        fields.finish()
        if segment is None:
            raise InvalidRequest.of([(FILES[0], "must be in the form at least once")])
        return config_in(first)

    async def items(self) -> AsyncGenerator[NewItem | IgnoredFile]:
        """Yields the files, also those in zip files. Call `config` first.

        Raises:
            InvalidRequest: the form, or a zip file in it, is invalid.
            BatchTooLarge: a zip file is too large.
        """
        while (segment := self._segment) is not None:
            if segment.name not in FILES:
                text = "must stand before the first file, and be a field of the form"
                raise InvalidRequest.of([(text_of(segment.name)[:64], text)])
            await self._readmit()
            name = checked_filename(file_name(segment) or str(self._file_count), segment.name)
            kind = segment.content_type or ""
            self._file_count += 1
            content = FileContent(self.read)
            opened = items_of(segment.name, name, kind, content, self._limits)
            async with aclosing(opened) as items:
                async for item in items:
                    yield item
            async for _ in content:
                pass  # skips the rest
            await self._next_segment()

    async def read(self) -> bytes | None:
        """Returns the next piece of the current field; None at its end."""
        while not self._events:
            await self._more()
        event = self._events.popleft()
        assert not isinstance(event, MultipartSegment)
        return event

    async def _next_segment(self) -> MultipartSegment | None:
        """Moves to the next field; returns None at the end of the form."""
        self._segment = None
        while not self._events and not self._has_ended:
            await self._more()
        if self._events:
            segment = self._events.popleft()
            assert isinstance(segment, MultipartSegment)
            self._segment = segment
        return self._segment

    async def _text(self) -> bytes:
        self._text_count += 1
        if self._text_count > MAX_PARTS:
            raise InvalidRequest.of([("body", f"the form has more than {MAX_PARTS} fields")])
        text = bytearray()
        while (chunk := await self.read()) is not None:
            # One byte more than allowed is enough to be refused.
            text += chunk[: MAX_TEXT_BYTES + 1 - len(text)]
        return bytes(text)

    async def _more(self) -> None:
        """Reads one more piece of the body.

        Raises:
            InvalidRequest: the body ends before the form does.
        """
        message = await anext(self._requests, None)
        if message is not None:
            self._parse(message.body.data)
            return
        self._has_ended = True
        with invalid_if_malformed():
            self._parser.close()

    def _parse(self, data: bytes) -> None:
        if data:
            with invalid_if_malformed():
                self._events.extend(self._parser.parse(data))


def config_in(form: Request) -> batch_pb2.BatchConfig:
    """Returns the configuration of a message that contains its fields itself."""
    config = batch_pb2.BatchConfig()
    copy_fields(form, config)
    copy_fields(form, config.options)
    return config
