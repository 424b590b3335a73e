"""What threads do in their own way: the channel, waiting, blocking work.

Its twin in `_aio` is written by hand.
"""

import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import grpc

from image_categorizer import _channel
from image_categorizer._access_values import Tls, TokenProvider

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")


def sleep(seconds: float) -> None:
    """Waits."""
    time.sleep(seconds)


def in_thread(
    function: Callable[Arguments, Returned], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Returned:
    """Returns what a blocking function returns; the caller's own thread may block."""
    return function(*args, **kwargs)


def token_of(provider: TokenProvider) -> str:
    """Returns the token that a provider returns."""
    return provider()


class Channel:
    """The gRPC channel of one client; any thread may use it."""

    def __init__(self, base_url: str, tls: Tls | None) -> None:
        """Checks the address; connects on the first call.

        Raises:
            OSError: a file of `tls` cannot be read.
            ValueError: `base_url` is not an address.
        """
        target = _channel.target(base_url, tls)
        options = _channel.channel_options(target, tls)
        self._channel = (
            grpc.secure_channel(target.address, _channel.credentials(tls), options)
            if target.is_secure
            else grpc.insecure_channel(target.address, options)
        )
        self._is_closed = False

    def get(self) -> grpc.Channel:
        """Returns the channel.

        Raises:
            RuntimeError: the client is closed.
        """
        if self._is_closed:
            raise RuntimeError("the client is closed")
        return self._channel

    def close(self) -> None:
        """Closes the channel; idempotent."""
        self._is_closed = True
        self._channel.close()
