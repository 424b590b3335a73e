"""What asyncio does in its own way: the channel, waiting, blocking work.

Its twin in `_sync` is written by hand.
"""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import grpc

from image_categorizer import _channel
from image_categorizer._access_values import AsyncTokenProvider, Tls

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")


async def sleep(seconds: float) -> None:
    """Waits."""
    await asyncio.sleep(seconds)


async def in_thread(
    function: Callable[Arguments, Returned], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Returned:
    """Returns what a blocking function returns, without blocking the event loop."""
    return await asyncio.to_thread(function, *args, **kwargs)


async def token_of(provider: AsyncTokenProvider) -> str:
    """Returns the token that a provider of either kind returns."""
    token = provider()
    return token if isinstance(token, str) else await token


class AsyncChannel:
    """The gRPC channel of one client.

    A channel belongs to the event loop in which it was made, so each loop gets its own on the first
    call.  The client may be made before any loop runs.
    """

    def __init__(self, base_url: str, tls: Tls | None) -> None:
        """Checks the address; connects on the first call.

        Raises:
            OSError: a file of `tls` cannot be read.
            ValueError: `base_url` is not an address.
        """
        self._target = _channel.target(base_url, tls)
        self._options = _channel.channel_options(self._target, tls)
        self._credentials = _channel.credentials(tls) if self._target.is_secure else None
        self._channel: grpc.aio.Channel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False

    def get(self) -> grpc.aio.Channel:
        """Returns the channel of the running event loop.

        Raises:
            RuntimeError: the client is closed.
        """
        if self._is_closed:
            raise RuntimeError("the client is closed")
        loop = asyncio.get_running_loop()
        if self._channel is None or self._loop is not loop:
            # gRPC destroys the channel of an earlier loop once no call refers to it.
            self._channel, self._loop = self._made(), loop
        return self._channel

    def _made(self) -> grpc.aio.Channel:
        address = self._target.address
        if self._credentials is not None:
            return grpc.aio.secure_channel(address, self._credentials, self._options)
        return grpc.aio.insecure_channel(address, self._options)

    async def close(self) -> None:
        """Closes the channel; idempotent."""
        channel, self._channel, self._is_closed = self._channel, None, True
        if channel is not None and self._loop is asyncio.get_running_loop():
            await channel.close()
        self._loop = None
