"""The way out: resolves a name once, checks its addresses, connects to one of those.

`httpcore` asks its network backend for every connection, so the check stands where no request can
get around it: whatever the name says a moment later, the connection goes to an address that was
judged.  TLS and the `Host` header keep the name.
"""

import asyncio
import ipaddress
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import httpcore
import psutil

from image_categorizer_server.egress.guard import LOCALHOST, Address, Guard, Refused
from image_categorizer_server.errors import ImageTooLarge
from image_categorizer_server.settings.fetch import FetchSettings

Headers = list[tuple[bytes, bytes]]
MOST_TRIED = 4
LOOPBACK = ipaddress.IPv4Address("127.0.0.1")


class Budget:
    """How many bytes one call may still read, headers and framing included."""

    def __init__(self, bytes_left: int) -> None:
        self._bytes_left = bytes_left

    def spend(self, count: int) -> None:
        """Counts bytes that came.

        Raises:
            Refused: they are more than may come.
        """
        self._bytes_left -= count
        if self._bytes_left < 0:
            raise Refused("the host sends too much")


# Connections outlive calls; a read belongs to the call in whose task it happens.
budget: ContextVar[Budget | None] = ContextVar("budget", default=None)


class Resolver:
    """Asks DNS for the addresses of names; no hosts file, no search list."""

    def __init__(self, settings: FetchSettings) -> None:
        self._settings = settings

    async def resolve(self, host: str) -> list[Address]:
        """Returns all addresses of a name, those of IPv4 first; none for a name that has none.

        Raises:
            TimeoutError, OSError: DNS does not answer, or not so that it makes sense.
        """
        if host == LOCALHOST:  # RFC 6761, section 6.3
            return [LOOPBACK]
        try:
            return [ipaddress.ip_address(host)]
        except ValueError:
            pass
        kinds = (dns.rdatatype.A, dns.rdatatype.AAAA)
        answers = await asyncio.gather(*(self._ask(host, kind) for kind in kinds))
        found = [address for answer in answers if isinstance(answer, list) for address in answer]
        failures = [answer for answer in answers if isinstance(answer, OSError)]
        if failures and not found:
            raise failures[0]
        return found

    async def _ask(self, host: str, kind: dns.rdatatype.RdataType) -> list[Address] | OSError:
        """Returns the addresses of one kind, or why there are none."""
        try:
            answer = await self._resolver().resolve(
                dns.name.from_text(host), kind, search=False, raise_on_no_answer=False
            )
        except dns.exception.Timeout:
            return TimeoutError("DNS does not answer")
        except dns.exception.DNSException as error:
            return OSError(f"DNS knows no address: {type(error).__name__}")
        return [ipaddress.ip_address(record.address) for record in answer.rrset or ()]

    def _resolver(self) -> dns.asyncresolver.Resolver:
        # Made for each name: reading resolv.conf costs little, and it changes while we run.
        own = self._settings.resolver
        resolver = dns.asyncresolver.Resolver(configure=not own)
        if own:
            address, _, port = own.rpartition(":")
            resolver.nameservers, resolver.port = [address.strip("[]")], int(port)
        resolver.lifetime = self._settings.resolve_timeout_s
        return resolver


class GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Opens connections to addresses that the guard permits, and to no others."""

    def __init__(self, settings: FetchSettings) -> None:
        self._guard = Guard(settings)
        self._resolver = Resolver(settings)
        self._network = httpcore.AnyIOBackend()

    async def permitted(self, host: str) -> list[Address]:
        """Returns the addresses of a name.

        Raises:
            Refused: one of them may not be called.
            TimeoutError, OSError: DNS does not know.
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
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connects to the first address that answers, at most `timeout` seconds for each.

        Raises:
            Refused: an address of the host may not be called.
            TimeoutError, OSError: DNS does not know.
            httpcore.ConnectError, httpcore.ConnectTimeout: no address answers.
        """
        failure: Exception = httpcore.ConnectError("no address")
        for address in (await self.permitted(host))[:MOST_TRIED]:
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


class Turns:
    """Lets in so many at a time for each host; the others wait."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._gates: dict[str, asyncio.Semaphore] = {}
        self._users: defaultdict[str, int] = defaultdict(int)

    @asynccontextmanager
    async def turn(self, host: str) -> AsyncIterator[None]:
        """Waits for a turn, and holds it."""
        gate = self._gates.setdefault(host, asyncio.Semaphore(self._most))
        self._users[host] += 1
        try:
            async with gate:
                yield
        finally:
            self._users[host] -= 1
            if not self._users[host]:
                del self._users[host], self._gates[host]


class CountedStream(httpcore.AsyncNetworkStream):
    """A connection whose reads are charged to the call that makes them."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """Reads what is there.

        Raises:
            Refused: more than the call may read.
        """
        content = await self._stream.read(max_bytes, timeout)
        if call := budget.get():
            call.spend(len(content))
        return content

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Writes all."""
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
        """Goes on encrypted; from here on plain bytes are counted."""
        try:
            return CountedStream(
                await self._stream.start_tls(ssl_context, server_hostname, timeout)
            )
        except asyncio.CancelledError:  # httpcore leaves the socket open then
            await self._stream.aclose()
            raise

    def get_extra_info(self, info: str) -> Any:
        """Returns what the connection underneath knows."""
        return self._stream.get_extra_info(info)


def own_addresses() -> set[Address]:
    """Returns the addresses of this machine's network cards."""
    found: set[Address] = set()
    for card in psutil.net_if_addrs().values():
        for entry in card:
            try:
                found.add(ipaddress.ip_address(entry.address))
            except ValueError:  # a hardware address
                continue
    return found


async def image_of(response: httpcore.Response, max_bytes: int) -> bytes:
    """Returns the body of an answer.

    Raises:
        Refused: it is compressed, which was not asked for: a bomb perhaps.
        ImageTooLarge: more than `max_bytes`, by what its header says or by what comes.
    """
    headers = readable(response.headers)
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused("the body is compressed")
    length = headers.get("content-length", "")
    is_long = length.isdigit() and int(length[:20]) > max_bytes
    content = b"" if is_long else await read(response, max_bytes)
    if is_long or len(content) > max_bytes:
        raise ImageTooLarge.over(max_bytes)
    return content


async def read(response: httpcore.Response, max_bytes: int) -> bytes:
    """Returns the body, or its beginning: at least one byte more than `max_bytes`."""
    content = bytearray()
    async for chunk in response.aiter_stream():
        content += chunk
        if len(content) > max_bytes:
            break
    return bytes(content)


def readable(headers: Headers) -> dict[str, str]:
    """Returns headers as text."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
