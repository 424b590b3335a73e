"""Resolves a name once, checks all its addresses, and connects to one of those.

httpcore asks its network backend for every connection, so no request can bypass the check.  Even if
the name resolves to another address a moment later, the connection goes to an address that was
checked.  TLS and the `Host` header keep the name.
"""

import asyncio
import ipaddress
import ssl
from collections.abc import Iterable
from contextvars import ContextVar

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import httpcore
import psutil

from image_categorizer_server.egress.guard import LOCALHOST, Address, Guard, Refused
from image_categorizer_server.settings.fetch import FetchSettings

MAX_ADDRESSES_TRIED = 4
LOOPBACK = ipaddress.IPv4Address("127.0.0.1")
SocketOption = (
    tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]
)


class ReadBudget:
    """Limits the bytes that one call reads, including headers and framing."""

    def __init__(self, bytes_left: int) -> None:
        self._bytes_left = bytes_left

    def spend(self, count: int) -> None:
        """Counts bytes that were read.

        Raises:
            Refused: they exceed the budget.
        """
        self._bytes_left -= count
        if self._bytes_left < 0:
            raise Refused("the host sends too much")


# Connections outlive calls.  A read belongs to the call in whose task it happens.
read_budget: ContextVar[ReadBudget | None] = ContextVar("read_budget", default=None)


class Resolver:
    """Resolves names by DNS only: no hosts file, no search list."""

    def __init__(self, settings: FetchSettings) -> None:
        self._settings = settings

    async def resolve(self, host: str) -> list[Address]:
        """Returns all addresses of a name, IPv4 first. Empty if the name has none.

        Raises:
            TimeoutError, OSError: DNS does not answer, or answers with an error.
        """
        if host == LOCALHOST:  # RFC 6761, section 6.3
            return [LOOPBACK]
        try:
            return [ipaddress.ip_address(host)]
        except ValueError:
            pass
        kinds = (dns.rdatatype.A, dns.rdatatype.AAAA)
        answers = await asyncio.gather(*(self._query(host, kind) for kind in kinds))
        found = [address for answer in answers if isinstance(answer, list) for address in answer]
        failures = [answer for answer in answers if isinstance(answer, OSError)]
        if failures and not found:
            raise failures[0]
        return found

    async def _query(self, host: str, kind: dns.rdatatype.RdataType) -> list[Address] | OSError:
        """Returns the addresses of one kind, or why there are none."""
        try:
            answer = await self._resolver().resolve(
                dns.name.from_text(host), kind, search=False, raise_on_no_answer=False
            )
        except dns.exception.Timeout:
            return TimeoutError("DNS does not answer")
        except dns.exception.DNSException as error:
            return OSError(f"DNS has no address: {type(error).__name__}")
        return [ipaddress.ip_address(record.address) for record in answer.rrset or ()]

    def _resolver(self) -> dns.asyncresolver.Resolver:
        # A new one for each name: reading resolv.conf is cheap, and the file may change.
        own = self._settings.resolver
        resolver = dns.asyncresolver.Resolver(configure=not own)
        if own:
            address, _, port = own.rpartition(":")
            resolver.nameservers, resolver.port = [address.strip("[]")], int(port)
        resolver.lifetime = self._settings.resolve_timeout_s
        return resolver


class GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Opens connections only to addresses that the guard permits."""

    def __init__(self, settings: FetchSettings) -> None:
        self._guard = Guard(settings)
        self._resolver = Resolver(settings)
        self._network = httpcore.AnyIOBackend()

    async def resolve_permitted(self, host: str) -> list[Address]:
        """Returns the addresses of a name.

        Raises:
            Refused: one of them must not be called.
            TimeoutError, OSError: the name cannot be resolved.
        """
        addresses = await self._resolver.resolve(host)
        self._guard.permit(addresses, own_addresses())
        return addresses

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connects to the first address that answers, within `timeout` seconds for each.

        Raises:
            Refused: an address of the host must not be called.
            TimeoutError, OSError: the name cannot be resolved.
            httpcore.ConnectError, httpcore.ConnectTimeout: no address answers.
        """
        failure: Exception = httpcore.ConnectError("no address")
        for address in (await self.resolve_permitted(host))[:MAX_ADDRESSES_TRIED]:
            try:
                return CountedStream(
                    await self._network.connect_tcp(
                        str(address), port, timeout, local_address, socket_options
                    )
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def sleep(self, seconds: float) -> None:
        """Waits, as httpcore asks for it."""
        await asyncio.sleep(seconds)


class CountedStream(httpcore.AsyncNetworkStream):
    """A connection that charges each read to the budget of the call that makes it."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """Reads available bytes.

        Raises:
            Refused: the call has used up its budget.
        """
        content = await self._stream.read(max_bytes, timeout)
        if budget := read_budget.get():
            budget.spend(len(content))
        return content

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Writes all bytes."""
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Closes the connection."""
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        """Encrypts the connection. From then on, decrypted bytes are counted."""
        try:
            return CountedStream(
                await self._stream.start_tls(ssl_context, server_hostname, timeout)
            )
        except asyncio.CancelledError:  # httpcore would leave the socket open
            await self._stream.aclose()
            raise

    def get_extra_info(self, info: str) -> object:
        """Returns information about the underlying connection."""
        return self._stream.get_extra_info(info)


def own_addresses() -> set[Address]:
    """Returns the addresses of this machine's network interfaces."""
    found: set[Address] = set()
    for interface in psutil.net_if_addrs().values():
        for entry in interface:
            try:
                found.add(ipaddress.ip_address(entry.address))
            except ValueError:  # a hardware address
                continue
    return found
