"""The content of stored images, with the headers that HTTP's caches use (RFC 9110, RFC 9111).

If-None-Match            304, without content and without making any
Range, If-Range          206, one part; several parts are answered with all
an unsatisfiable Range   416
"""

import re
from collections.abc import Mapping
from pathlib import PurePath
from urllib.parse import quote

import grpc
from google.api import httpbody_pb2
from image_categorizer.v1 import image_pb2

from image_categorizer_server.domain.rendition import ContentWish
from image_categorizer_server.rpc.call import current_call, current_tenant
from image_categorizer_server.rpc.validation import image_id_of
from image_categorizer_server.services.image_content import ImageContents, PlannedContent

Context = grpc.aio.ServicerContext
Fields = tuple[tuple[str, str], ...]
PARTIAL_CONTENT, NOT_MODIFIED, NOT_SATISFIABLE = 206, 304, 416
ONE_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{1,18})?|-(\d{1,18}))", re.ASCII)
ENTITY_TAG = re.compile(r'(?:W/)?("[^"]*")')
# RFC 6266, appendix D: what some browsers decode, or end a name at.
UNSAFE_IN_NAME = re.compile(r"[^A-Za-z0-9 ._()+,=@-]")


class ImageContentServicer:
    """Serves the content of images."""

    def __init__(self, contents: ImageContents) -> None:
        self._contents = contents

    async def GetImageContent(
        self,
        request: image_pb2.GetImageContentRequest,
        context: Context[image_pb2.GetImageContentRequest, httpbody_pb2.HttpBody],
    ) -> httpbody_pb2.HttpBody:
        wish = ContentWish(
            request.width, request.height, request.fit, request.format, request.quality
        )
        image_id = image_id_of(request.image_id)
        planned = await self._contents.plan(current_tenant(), image_id, wish)
        headers = {str(name): value for name, value in context.invocation_metadata() or ()}
        entity_tag = f'"{planned.digest}"'
        fields: Fields = (
            ("etag", entity_tag),
            ("cache-control", f"private, max-age={self._contents.cache_s}, immutable"),
        )
        if is_known(str(headers.get("if-none-match", "")), entity_tag):
            current_call.get().fields = (*fields, ("x-http-status", str(NOT_MODIFIED)))
            return httpbody_pb2.HttpBody()
        content = await self._contents.read(planned)
        part, ranged = cut(content, requested_range(headers, entity_tag))
        shown = ("content-disposition", disposition(name_of(planned)))
        current_call.get().fields = (*fields, shown, ("accept-ranges", "bytes"), *ranged)
        return httpbody_pb2.HttpBody(content_type=planned.content_type, data=part)


def is_known(if_none_match: str, entity_tag: str) -> bool:
    """Returns whether a client has the content already (RFC 9110, section 13.1.2)."""
    return if_none_match.strip() == "*" or entity_tag in ENTITY_TAG.findall(if_none_match)


def requested_range(headers: Mapping[str, str | bytes], entity_tag: str) -> str:
    """Returns the range that a client asks for; empty if its first part is of other content."""
    condition = str(headers.get("if-range", entity_tag)).strip()
    return str(headers.get("range", "")) if condition == entity_tag else ""


def cut(content: bytes, wanted: str) -> tuple[bytes, Fields]:
    """Returns a part of the content, and the headers that say which (RFC 9110, section 14).

    Args:
        content: all of it.
        wanted: the header Range; what is not one range of bytes is ignored.
    """
    found = ONE_RANGE.fullmatch(wanted.strip())
    if not found:
        return content, ()
    first, last, suffix = found.groups()
    size = len(content)
    start = int(first) if first else max(0, size - int(suffix))
    end = min(int(last), size - 1) if last else size - 1
    if last and int(last) < int(first or 0):
        return content, ()  # malformed
    if start >= size:
        unsatisfiable = ("content-range", f"bytes */{size}")
        return b"", (unsatisfiable, ("x-http-status", str(NOT_SATISFIABLE)))
    span = ("content-range", f"bytes {start}-{end}/{size}")
    return content[start : end + 1], (span, ("x-http-status", str(PARTIAL_CONTENT)))


def name_of(planned: PlannedContent) -> str:
    """Returns the name under which a browser saves the content."""
    stem = PurePath(planned.image.filename).stem or planned.image.image_id
    return f"{stem}.{planned.rendition.format}"


def disposition(name: str) -> str:
    """Returns the header Content-Disposition for a file of any name (RFC 6266, section 4)."""
    plain = UNSAFE_IN_NAME.sub("_", name)
    encoded = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe='')}"
    return f'inline; filename="{plain}"{encoded}'
