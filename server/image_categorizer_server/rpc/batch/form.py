"""UploadBatchForm: a form (RFC 7578) with any number of images and zip files, read as it comes.

    body ─▶ parser ─▶ fields, then files ─▶ items
                           └── zip files ─▶ disk ─▶ items

One piece of the body is in memory at a time.
"""

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Self

from image_categorizer.v1 import batch_pb2, classify_pb2
from multipart import MultipartSegment, PushMultipartParser

from image_categorizer_server.errors import InvalidRequest
from image_categorizer_server.rpc.batch.archive import ArchiveLimits, is_archive, unpacked
from image_categorizer_server.rpc.batch.validation import checked_filename
from image_categorizer_server.rpc.form_fields import MOST_TEXT_BYTES, FormFields
from image_categorizer_server.rpc.multipart import (
    MOST_PARTS,
    boundary_of,
    is_form,
    malformed_is_refused,
)
from image_categorizer_server.services.upload import NewItem

Request = batch_pb2.UploadBatchFormRequest
FILES = ("images[]", "images")


class Form:
    """The body of one call, as a configuration and files."""

    def __init__(
        self,
        requests: AsyncIterator[Request],
        readmit: Callable[[], Awaitable[None]],
        limits: ArchiveLimits,
    ) -> None:
        """Begins the call.

        Args:
            requests: what the client sends.
            readmit: asked before each file whether the caller still may.
            limits: what a zip file may be.
        """
        self._requests = requests
        self._readmit = readmit
        self._limits = limits
        self._events: deque[MultipartSegment | bytes | None] = deque()
        self._parser: PushMultipartParser  # made when the first message tells the boundary
        self._has_ended = False
        self._segment: MultipartSegment | None = None
        self._text_count = 0
        self._file_count = 0

    async def config(self) -> batch_pb2.BatchConfig:
        """Returns how the batch is run: query parameters, and the fields before the first file.

        Raises:
            InvalidRequest: the body is no form, or has no file, or a field is wrong.
        """
        first = await anext(self._requests, None)
        content_type = first.body.content_type if first else ""
        if first is None or not is_form(content_type):
            text = "must be multipart/form-data, or application/json"
            raise InvalidRequest.of([("content-type", text)])
        with malformed_is_refused():
            self._parser = PushMultipartParser(boundary_of(content_type))
        self._feed(first.body.data)
        first.ClearField("body")
        fields = FormFields(first, FILES)
        while (segment := await self._next_segment()) is not None and segment.name not in FILES:
            fields.check_name(segment.name)
            fields.set(segment.name, await self._text())
        if segment is None:
            raise InvalidRequest.of([(FILES[0], "must be in the form at least once")])
        return _config(first)

    async def items(self) -> AsyncGenerator[NewItem]:
        """Yields the files; `config` comes first.

        Raises:
            InvalidRequest: the form, or a zip file in it, is not what it must be.
            BatchTooLarge: a zip file holds too much.
        """
        while (segment := self._segment) is not None:
            if segment.name not in FILES:
                text = "must stand before the first file, and be a field of the form"
                raise InvalidRequest.of([(segment.name[:64], text)])
            await self._readmit()
            name = checked_filename(segment.filename or str(self._file_count), segment.name)
            self._file_count += 1
            content = _Content(self)
            if is_archive(segment.content_type or "", name):
                async with aclosing(unpacked(content, self._limits)) as items:
                    async for item in items:
                        yield item
            else:
                yield NewItem(name, content, None)
            async for _ in content:
                pass  # what nobody wanted
            await self._next_segment()

    async def read(self) -> bytes | None:
        """Returns the next piece of the field that was begun last; None at its end."""
        while not self._events:
            await self._more()
        event = self._events.popleft()
        assert not isinstance(event, MultipartSegment)
        return event

    async def _next_segment(self) -> MultipartSegment | None:
        """Goes to the next field; None at the end of the form."""
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
        if self._text_count > MOST_PARTS:
            raise InvalidRequest.of([("body", f"the form has more than {MOST_PARTS} fields")])
        text = bytearray()
        while (chunk := await self.read()) is not None:
            # What is longer than may be is refused all the same.
            text += chunk[: MOST_TEXT_BYTES + 1 - len(text)]
        return bytes(text)

    async def _more(self) -> None:
        """Reads one more piece of the body.

        Raises:
            InvalidRequest: the body ends before the form does.
        """
        message = await anext(self._requests, None)
        if message is not None:
            self._feed(message.body.data)
            return
        self._has_ended = True
        with malformed_is_refused():
            self._parser.close()

    def _feed(self, data: bytes) -> None:
        if data:
            with malformed_is_refused():
                self._events.extend(self._parser.parse(data))


def _config(form: Request) -> batch_pb2.BatchConfig:
    options = classify_pb2.ClassifyOptions(
        model=form.model,
        version=form.version,
        confidence_threshold=form.confidence_threshold,
        top_k=form.top_k if form.HasField("top_k") else None,
        bounding_boxes=form.bounding_boxes,
        include_categories=form.include_categories,
        exclude_categories=form.exclude_categories,
        no_cache=form.no_cache,
    )
    return batch_pb2.BatchConfig(
        options=options,
        webhook_url=form.webhook_url,
        request_id=form.request_id,
        priority=form.priority,
    )


class _Content:
    """The pieces of one file."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._has_ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunk = None if self._has_ended else await self._form.read()
        if chunk is None:
            self._has_ended = True
            raise StopAsyncIteration
        return chunk
