"""Keeps connections open for the next call to the same host."""

import asyncio
import ssl

import httpcore

from image_categorizer_server.egress.network import GuardedNetwork
from image_categorizer_server.settings.fetch import FetchSettings


class Connection(httpcore.AsyncHTTPConnection):
    """A connection that a cancelled call closes.

    httpcore 1.0 leaves a connection open if its first call is cancelled between connecting and
    sending.  It is neither idle nor closed then and holds its place in the pool for ever.
    """

    _has_answered = False

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        """Sends a request and returns the answer's status and headers."""
        try:
            response = await super().handle_async_request(request)
        except asyncio.CancelledError:
            if not self._has_answered:  # so no other call uses it
                await self.aclose()
            raise
        self._has_answered = True
        return response


class ConnectionPool(httpcore.AsyncConnectionPool):
    """The connections of a fetcher."""

    def __init__(
        self, settings: FetchSettings, trusted: ssl.SSLContext, network: GuardedNetwork
    ) -> None:
        """Creates a pool without connections.

        Args:
            settings: limits.
            trusted: the authorities that hosts are checked against.
            network: opens connections.
        """
        super().__init__(max_connections=settings.max_connections)
        self._settings = settings
        self._trusted = trusted
        self._network = network

    def create_connection(self, origin: httpcore.Origin) -> Connection:
        """Returns a connection that connects when it gets its first request."""
        return Connection(
            origin,
            ssl_context=self._trusted,
            keepalive_expiry=self._settings.keep_alive_s,
            network_backend=self._network,
        )
