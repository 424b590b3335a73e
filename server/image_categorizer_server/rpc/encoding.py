"""Bodies that are compressed by gzip (`content-encoding: gzip`), within bounds.

The gateway hands them on as they are, and names the encoding in a header.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator

from google.api.httpbody_pb2 import HttpBody
from image_categorizer.v1.batch_pb2 import UploadBatchFormRequest

from image_categorizer_server.errors import BatchTooLarge, ImageTooLarge, InvalidRequest
from image_categorizer_server.rpc.call import current_call

GZIP = "gzip"
GZIP_WINDOW_BITS = 31
PIECE_BYTES = 256 * 1024
CONTENT_TOO_LARGE = 413
BODY = "body"


def unpacked(data: bytes, max_bytes: int) -> bytes:
    """Returns the body of an image.

    Raises:
        InvalidRequest: the body is not gzip, or damaged.
        ImageTooLarge: it has more than `max_bytes`. The rest is not unpacked.
    """
    gzip = Gzip()
    body = bytearray()
    for piece in gzip.unpack(data):
        body += piece
        if len(body) > max_bytes:
            current_call.get().http_status = CONTENT_TOO_LARGE
            raise ImageTooLarge(f"the body has more than {max_bytes} bytes when it is unpacked")
    gzip.close()
    return bytes(body)


async def unpacked_messages(
    requests: AsyncIterator[UploadBatchFormRequest], max_ratio: float, free_bytes: int
) -> AsyncIterator[UploadBatchFormRequest]:
    """Yields the messages of a body that is sent in parts, unpacked.

    Args:
        requests: what the client sends.
        max_ratio: of the unpacked to the packed size.
        free_bytes: unpacked size up to which the ratio is not checked.

    Raises:
        InvalidRequest: the body is not gzip, or damaged.
        BatchTooLarge: the ratio exceeds its maximum.
    """
    gzip = Gzip(max_ratio, free_bytes)
    is_first = True
    async for message in requests:
        data = message.body.data
        if is_first:  # contains the content type, and the query parameters
            message.body.data = b""
            yield message
            is_first = False
        for piece in gzip.unpack(data):
            yield UploadBatchFormRequest(body=HttpBody(data=piece))
            await asyncio.sleep(0)  # other calls get their turn
    gzip.close()


class Gzip:
    """Unpacks a body piece by piece."""

    def __init__(self, max_ratio: float = 0, free_bytes: int = 0) -> None:
        """Prepares to unpack.

        Args:
            max_ratio: of the unpacked to the packed size; 0 for any.
            free_bytes: unpacked size up to which the ratio is not checked.
        """
        self._max_ratio = max_ratio
        self._free_bytes = free_bytes
        self._member = zlib.decompressobj(GZIP_WINDOW_BITS)
        self._in_bytes = 0
        self._out_bytes = 0

    def unpack(self, data: bytes) -> Iterator[bytes]:
        """Yields what the next piece of the body contains, a little at a time.

        Raises:
            InvalidRequest: the body is not gzip, or damaged.
            BatchTooLarge: the ratio exceeds its maximum.
        """
        self._in_bytes += len(data)
        is_full = False
        while data or is_full:
            if self._member.eof:  # a file may consist of several members
                self._member = zlib.decompressobj(GZIP_WINDOW_BITS)
            try:
                piece = self._member.decompress(data, PIECE_BYTES)
            except zlib.error:
                raise InvalidRequest.of([(BODY, "is not gzip, or is damaged")]) from None
            data = self._member.unused_data or self._member.unconsumed_tail
            is_full = len(piece) == PIECE_BYTES and not self._member.eof
            self._check_ratio(len(piece))
            if piece:
                yield piece

    def close(self) -> None:
        """Ends the body.

        Raises:
            InvalidRequest: it ends too early.
        """
        if self._in_bytes and not self._member.eof:
            raise InvalidRequest.of([(BODY, "ends before its gzip data do")])

    def _check_ratio(self, size_bytes: int) -> None:
        self._out_bytes += size_bytes
        is_checked = self._max_ratio and self._out_bytes > self._free_bytes
        if is_checked and self._out_bytes > self._in_bytes * self._max_ratio:
            current_call.get().http_status = CONTENT_TOO_LARGE
            text = f"the body becomes more than {self._max_ratio:g} times as large when unpacked"
            raise BatchTooLarge(f"{text}; send it without content-encoding")
