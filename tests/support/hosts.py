"""A small internet for tests: a DNS server, web servers, and canaries.

Web servers that stand for public ones listen on 127.0.0.2, which the tests allow.  Canaries listen
where no call may arrive, and count the calls.  Only Linux routes all of 127.0.0.0/8 to itself.
"""

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from image_categorizer_server.settings.fetch import FetchSettings

ALLOWED = "127.0.0.2"
PRIVATE = "127.0.0.1"
MAX_UDP_BYTES = 1232
MAX_BYTES = 100_000
Handler = Callable[["Visit"], Awaitable[None]]
# Elsewhere, root must add the address to the loopback interface first.  The tested code is the same
# on all systems.
ON_LINUX = pytest.mark.skipif(
    sys.platform != "linux", reason="127.0.0.2 is this machine on Linux only"
)


class DnsServer(asyncio.DatagramProtocol):
    """A DNS server. `records[name]` holds addresses, `=name` for a CNAME, or a function."""

    def __init__(self) -> None:
        self.records: dict[str, Sequence[str] | Callable[[], Sequence[str]]] = {}
        self.silent: set[str] = set()
        self.queries = 0
        self.address = ""

    def connection_made(self, transport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, sender) -> None:
        answer = self.answer(data)
        if answer is None:
            return
        if len(answer) > MAX_UDP_BYTES:
            short = dns.message.make_response(dns.message.from_wire(data))
            short.flags |= dns.flags.TC
            answer = short.to_wire()
        self._transport.sendto(answer, sender)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serves UDP and TCP at one port."""
        async with await asyncio.start_server(self.serve_tcp, PRIVATE, 0) as server:
            port = _port_of(server)
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: self, local_addr=(PRIVATE, port)
            )
            self.address = f"{PRIVATE}:{port}"
            yield
            transport.close()

    async def serve_tcp(self, reader, writer) -> None:
        size = int.from_bytes(await reader.readexactly(2))
        answer = self.answer(await reader.readexactly(size))
        if answer:
            writer.write(len(answer).to_bytes(2) + answer)
        writer.close()

    def answer(self, data: bytes) -> bytes | None:
        self.queries += 1
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        if name in self.silent:
            return None
        response = dns.message.make_response(query)
        self._fill(response, question.name.to_text(), name, question.rdtype)
        return response.to_wire(max_size=65_535)

    def _fill(self, response, owner: str, name: str, kind) -> None:
        records = self.records.get(name)
        if records is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
            return
        for text in records() if callable(records) else records:
            if text.startswith("="):
                target = text[1:]
                response.answer.append(dns.rrset.from_text(owner, 0, "IN", "CNAME", f"{target}."))
                self._fill(response, f"{target}.", target, kind)
            elif (":" in text) == (kind == dns.rdatatype.AAAA):
                kind_text = dns.rdatatype.to_text(kind)
                response.answer.append(dns.rrset.from_text(owner, 0, "IN", kind_text, text))


def flips(*texts: str) -> Callable[[], Sequence[str]]:
    """Returns records that change at each resolution, which asks twice: for A and for AAAA."""
    records = itertools.cycle([text for text in texts for _ in range(2)])
    return lambda: [next(records)]


@dataclass
class Visit:
    """One request to a host."""

    head: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, status: str, body: bytes = b"", *headers: str) -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
        self.writer.write("\r\n".join(lines).encode("latin-1") + body)
        await self.writer.drain()


@dataclass
class Host:
    """A web server that answers each request as its handler does."""

    handler: Handler
    port: int = 0
    heads: list[bytes] = field(default_factory=list)
    connections: int = 0
    max_connections: int = 0
    """The most that were open at the same time."""

    @asynccontextmanager
    async def running(self, address: str, ssl=None) -> AsyncIterator[None]:
        server = await asyncio.start_server(self.serve, address, 0, ssl=ssl)
        self.port = _port_of(server)
        try:
            yield
        finally:
            # Not wait_closed(): it waits for handlers that never end.
            server.close()

    async def serve(self, reader, writer) -> None:
        self.connections += 1
        self.max_connections = max(self.max_connections, self.connections)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                await self.handler(Visit(head, reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.connections -= 1
            writer.close()


@asynccontextmanager
async def running_host(handler: Handler, ssl=None, address: str = ALLOWED) -> AsyncIterator[Host]:
    host = Host(handler)
    async with host.running(address, ssl):
        yield host


@dataclass
class Canary:
    """Listens where no call may arrive."""

    port: int = 0
    accepts: int = 0

    @asynccontextmanager
    async def running(self, addresses: Sequence[str]) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for address in addresses:
                server = await asyncio.start_server(
                    self.accept, address, self.port, reuse_address=True
                )
                stack.callback(server.close)
                self.port = _port_of(server)
            yield

    async def accept(self, reader, writer) -> None:
        self.accepts += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")
        writer.close()


@asynccontextmanager
async def running_canary(*addresses: str, port: int = 0) -> AsyncIterator[Canary]:
    """Listens at one port, any or the given one, on all these addresses."""
    canary = Canary(port)
    async with canary.running(addresses):
        yield canary


def _port_of(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


async def picture(visit):
    await visit.send("200 OK", b"picture", "Content-Type: image/jpeg")


async def silent(visit):
    await visit.reader.read()


async def endless(visit):
    visit.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        visit.writer.write(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
        await visit.writer.drain()


async def no_objects(uri, max_bytes):
    raise AssertionError("this test reads no objects")


def fetch_settings(names: DnsServer, *ports: int, **others) -> FetchSettings:
    """Returns settings that allow http, some ports, and the address of public hosts."""
    return FetchSettings(
        **{
            "allow_http": True,
            "allowed_ports": ports,
            "allowed_networks": [f"{ALLOWED}/32"],
            "resolver": names.address,
            "resolve_timeout_s": 0.7,
            "max_retries": 0,
            **others,
        }
    )
