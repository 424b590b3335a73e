# Generated from _aio/connection.py by tools/sync_twin.py; do not edit.
"""How the client makes calls."""

import time
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

import grpc

from image_categorizer import _channel, _wire
from image_categorizer._access_values import Tls, TokenProvider
from image_categorizer._retries import MAX_ATTEMPTS, MAX_CUTS, Retries, RetryBudget
from image_categorizer._statuses import from_rpc_error
from image_categorizer._sync.runtime import Channel, sleep, token_of
from image_categorizer.errors import RateLimited, Unavailable
from image_categorizer.v1 import (
    admin_pb2_grpc,
    batch_pb2_grpc,
    category_pb2_grpc,
    classify_pb2_grpc,
    embedding_pb2_grpc,
    feedback_pb2_grpc,
    image_pb2_grpc,
    metadata_pb2_grpc,
    review_pb2_grpc,
)

REPEATED = ("x-attempt", "2")
"""Says that an earlier call was cut off: the server makes sure that the image does not crash it."""
RETRIED = "UNAVAILABLE", "RESOURCE_EXHAUSTED"
Headers = tuple[tuple[str, str], ...]
Response = TypeVar("Response")
Page = TypeVar("Page", bound=_wire.Page)
Message_co = TypeVar("Message_co", covariant=True)


class Messages(Protocol[Message_co]):
    """A call that the server answers with many messages."""

    def __iter__(self) -> Iterator[Message_co]:
        """Yields the messages."""

    def cancel(self) -> bool:
        """Ends the call."""


class Stubs:
    """The methods of the services, on one channel."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self.classify = classify_pb2_grpc.ClassifyServiceStub(channel)
        self.metadata = metadata_pb2_grpc.MetadataServiceStub(channel)
        self.batches = batch_pb2_grpc.BatchServiceStub(channel)
        self.admin = admin_pb2_grpc.AdminServiceStub(channel)
        self.images = image_pb2_grpc.ImageServiceStub(channel)
        self.embeddings = embedding_pb2_grpc.EmbeddingServiceStub(channel)
        self.categories = category_pb2_grpc.CategoryServiceStub(channel)
        self.feedback = feedback_pb2_grpc.FeedbackServiceStub(channel)
        self.reviews = review_pb2_grpc.ReviewServiceStub(channel)


class Connection:
    """Calls the server with the client's credentials; its errors are those of `errors`."""

    def __init__(
        self,
        api_key: str,
        base_url: str,
        timeout_s: float,
        token_provider: TokenProvider | None = None,
        tls: Tls | None = None,
    ) -> None:
        """Connects on the first call.

        Raises:
            OSError: a file of `tls` cannot be read.
            ValueError: `base_url` is not an address, `api_key` cannot be one, or `token_provider`
                is given beside it.
        """
        if api_key and token_provider is not None:
            raise ValueError("a client takes either an api_key or a token_provider")
        self.token_provider = token_provider
        self._headers = _channel.headers(api_key)
        self.retry_budget = RetryBudget()
        self._channel = Channel(base_url, tls)
        self._stubs: Stubs | None = None
        self._timeout_s = timeout_s

    @property
    def stubs(self) -> Stubs:
        """The methods of the services.

        Raises:
            RuntimeError: the client is closed.
        """
        channel = self._channel.get()
        if self._stubs is None or self._stubs.channel is not channel:
            self._stubs = Stubs(channel)
        return self._stubs

    def headers(self) -> Headers:
        """Returns the headers of the next call.

        Raises:
            ValueError: the token of the provider is not one word.
            Exception: whatever the provider raises.
        """
        if self.token_provider is None:
            return self._headers
        return _channel.headers(token_of(self.token_provider))

    def call(self, method: Callable[..., Response], request: object) -> Response:
        """Returns the answer to a request that is safe to repeat, of the first or a later attempt.

        Raises:
            CategorizerError: the last attempt failed.
        """
        deadline_s = time.monotonic() + self._timeout_s
        retries = Retries(MAX_ATTEMPTS, self.retry_budget, MAX_CUTS)
        repeated: Headers = ()
        while True:
            headers = (*self.headers(), *repeated)
            try:
                response = self._attempt(method, request, deadline_s - time.monotonic(), headers)
            except (Unavailable, RateLimited) as error:
                # Only that status is safe to retry (AIP-194), and calls that were not begun.
                if error.status not in RETRIED or error.is_final:
                    raise
                wait_s = retries.failed(error)
                if time.monotonic() + wait_s >= deadline_s:
                    raise
                if retries.may_crash:
                    repeated = (REPEATED,)
            else:
                self.retry_budget.succeeded()
                return response
            sleep(wait_s)

    def call_once(self, method: Callable[..., Response], request: object) -> Response:
        """Returns the answer to one request.

        Raises:
            CategorizerError: the call failed.
        """
        return self._attempt(method, request, self._timeout_s, self.headers())

    def _attempt(
        self,
        method: Callable[..., Response],
        request: object,
        timeout_s: float,
        headers: Headers,
    ) -> Response:
        try:
            return method(request, timeout=timeout_s, metadata=headers)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error

    def pages(self, method: Callable[..., Page], request: _wire.PageRequest) -> Iterator[Page]:
        """Yields the pages of a list, from the one that `request` asks for to the last.

        Raises:
            CategorizerError: a call failed.
        """
        while True:
            page = self.call(method, request)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def messages(
        self, method: Callable[..., Messages[Response]], request: object
    ) -> Iterator[Response]:
        """Yields the messages that answer one request; the call may last for ever.

        Raises:
            CategorizerError: the call failed.
        """
        call = method(request, metadata=self.headers())
        try:
            for message in call:
                yield message
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        finally:
            call.cancel()

    def close(self) -> None:
        """Closes the connection; idempotent."""
        self._channel.close()
