"""PageService: the documentation, with the headers that HTTP's caches use (RFC 9110, RFC 9111)."""

import grpc
from google.api import httpbody_pb2
from image_categorizer.v1 import page_pb2, page_pb2_grpc

from image_categorizer_server.rpc.call import current_call
from image_categorizer_server.rpc.image_content import NOT_MODIFIED, is_known
from image_categorizer_server.services.page import FIRST, Pages

FOUND = 302
# A page is asked for each time, so that a new release is seen at once; what it loads, less often.
PAGE_CACHING, ASSET_CACHING = "no-cache", "public, max-age=300"


class PageServicer(page_pb2_grpc.PageServiceServicer):
    """Serves PageService."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def GetPage(
        self,
        request: page_pb2.GetPageRequest,
        context: grpc.aio.ServicerContext[page_pb2.GetPageRequest, httpbody_pb2.HttpBody],
    ) -> httpbody_pb2.HttpBody:
        call = current_call.get()
        if not request.path:
            await self._pages.get(FIRST)
            # The slash at the end of a path is dropped: links of a page at `/docs` would miss it.
            call.fields = (
                ("x-http-status", str(FOUND)),
                ("x-location", f"/docs/{FIRST}"),
                ("cache-control", PAGE_CACHING),
            )
            return httpbody_pb2.HttpBody()
        page = await self._pages.get(request.path)
        entity_tag = f'"{page.digest}"'
        caching = PAGE_CACHING if page.is_html else ASSET_CACHING
        call.fields = (("etag", entity_tag), ("cache-control", caching))
        headers = {str(name): value for name, value in context.invocation_metadata() or ()}
        if is_known(str(headers.get("if-none-match", "")), entity_tag):
            call.fields = (*call.fields, ("x-http-status", str(NOT_MODIFIED)))
            return httpbody_pb2.HttpBody()
        return httpbody_pb2.HttpBody(content_type=page.content_type, data=page.content)
