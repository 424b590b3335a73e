"""One connection for asyncio, and how a call on it is made."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import grpc

from image_categorizer import _calls
from image_categorizer.statuses import from_rpc_error

Response = TypeVar("Response")
Page = TypeVar("Page", bound=_calls.Page)


class AsyncCaller:
    """Makes the calls of `AsyncImageCategorizationClient`; its parts add the methods."""

    def __init__(self, api_key: str, base_url: str, timeout_s: float) -> None:
        """Configures the connection, as `ImageCategorizationClient` says."""
        address, is_secure = _calls.target(base_url)
        options = _calls.channel_options()
        self._channel = (
            grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(), options)
            if is_secure
            else grpc.aio.insecure_channel(address, options)
        )
        self._headers = _calls.headers(api_key)
        self._timeout_s = timeout_s

    async def _call(self, method: Callable[..., Awaitable[Response]], request: object) -> Response:
        try:
            return await method(request, timeout=self._timeout_s, metadata=self._headers)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error

    async def _pages(
        self, method: Callable[..., Awaitable[Page]], request: _calls.PageRequest
    ) -> AsyncIterator[Page]:
        """Yields the pages of a list, from the one that `request` asks for to the last."""
        while True:
            page = await self._call(method, request)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token
