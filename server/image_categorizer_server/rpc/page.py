"""PageService: documentation and dashboard, with the headers of caches (RFC 9110, RFC 9111)."""

from typing import Any

import grpc
from google.api import httpbody_pb2
from image_categorizer.v1 import page_pb2, page_pb2_grpc

from image_categorizer_server.rpc.call import current_call
from image_categorizer_server.rpc.image_content import NOT_MODIFIED, is_known
from image_categorizer_server.services.dashboard import ASSETS, Dashboard
from image_categorizer_server.services.page import FIRST, Page, Pages

FOUND = 302
# A page is asked for each time, so that a new release is seen at once; what it loads, less often.
PAGE_CACHING, ASSET_CACHING = "no-cache", "public, max-age=300"
FOREVER = "public, max-age=31536000, immutable"
# Mantine, the dashboard's library of components, writes style sheets while it runs. Scripts, which
# could do harm, come from files alone.
DASHBOARD_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


class PageServicer(page_pb2_grpc.PageServiceServicer):
    """Serves PageService."""

    def __init__(self, pages: Pages, dashboard: Dashboard) -> None:
        self._pages = pages
        self._dashboard = dashboard

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
        caching = PAGE_CACHING if page.is_html else ASSET_CACHING
        return _answer(page, context, (("cache-control", caching),))

    async def GetDashboard(
        self,
        request: page_pb2.GetDashboardRequest,
        context: grpc.aio.ServicerContext[page_pb2.GetDashboardRequest, httpbody_pb2.HttpBody],
    ) -> httpbody_pb2.HttpBody:
        page = await self._dashboard.get(request.path or FIRST)
        if page.is_html:
            fields = (
                ("cache-control", PAGE_CACHING),
                ("content-security-policy", DASHBOARD_POLICY),
            )
            return _answer(page, context, fields)
        caching = FOREVER if request.path.startswith(ASSETS) else ASSET_CACHING
        return _answer(page, context, (("cache-control", caching),))


def _answer(
    page: Page,
    context: grpc.aio.ServicerContext[Any, httpbody_pb2.HttpBody],
    fields: tuple[tuple[str, str], ...],
) -> httpbody_pb2.HttpBody:
    """Returns the page, or nothing if the browser has it."""
    call = current_call.get()
    entity_tag = f'"{page.digest}"'
    call.fields = (("etag", entity_tag), *fields)
    headers = {str(name): value for name, value in context.invocation_metadata() or ()}
    if is_known(str(headers.get("if-none-match", "")), entity_tag):
        call.fields = (*call.fields, ("x-http-status", str(NOT_MODIFIED)))
        return httpbody_pb2.HttpBody()
    return httpbody_pb2.HttpBody(content_type=page.content_type, data=page.content)
