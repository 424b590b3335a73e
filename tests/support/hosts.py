"""A small internet of tests: names from a DNS server of our own, hosts that behave or do not.

Hosts that stand for public ones listen on 127.0.0.2, which the tests allow; canaries listen where
nothing may ever arrive, and count what does.  All of 127.0.0.0/8 is this machine only on Linux.
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
MOST_UDP_BYTES = 1232
MOST_BYTES = 100_000
Handler = Callable[["Visit"], Awaitable[None]]
# Elsewhere an address beside 127.0.0.1 must be given to the loopback interface first, which only
# root may do; what is tested is the same code on every system.
ON_LINUX = pytest.mark.skipif(
    sys.platform != "linux", reason="127.0.0.2 is this machine on Linux only"
)


class Names(asyncio.DatagramProtocol):
    """A DNS server.  `records[name]` are addresses, `=name` for a CNAME, or a function of those."""

    def __init__(self) -> None:
        self.records: dict[str, Sequence[str] | Callable[[], Sequence[str]]] = {}
        self.silent: set[str] = set()
        self.asked = 0
        self.address = ""

    def connection_made(self, transport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, sender) -> None:
        answer = self.answer(data)
        if answer is None:
            return
        if len(answer) > MOST_UDP_BYTES:
            short = dns.message.make_response(dns.message.from_wire(data))
            short.flags |= dns.flags.TC
            answer = short.to_wire()
        self._transport.sendto(answer, sender)

    async def serve_tcp(self, reader, writer) -> None:
        size = int.from_bytes(await reader.readexactly(2))
        answer = self.answer(await reader.readexactly(size))
        if answer:
            writer.write(len(answer).to_bytes(2) + answer)
        writer.close()

    def answer(self, data: bytes) -> bytes | None:
        self.asked += 1
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


@asynccontextmanager
async def running_names() -> AsyncIterator[Names]:
    loop = asyncio.get_running_loop()
    names = Names()
    async with await asyncio.start_server(names.serve_tcp, PRIVATE, 0) as server:
        port = server.sockets[0].getsockname()[1]
        transport, _ = await loop.create_datagram_endpoint(
            lambda: names, local_addr=(PRIVATE, port)
        )
        names.address = f"{PRIVATE}:{port}"
        yield names
        transport.close()


def flips(*texts: str) -> Callable[[], Sequence[str]]:
    """Another address at each question; both kinds are asked for, so each comes twice."""
    turns = itertools.cycle([text for text in texts for _ in range(2)])
    return lambda: [next(turns)]


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
    """A web server that does with each request what its handler says."""

    handler: Handler
    port: int = 0
    heads: list[bytes] = field(default_factory=list)
    open_now: int = 0
    open_most: int = 0
    sent_bytes: int = 0

    async def serve(self, reader, writer) -> None:
        self.open_now += 1
        self.open_most = max(self.open_most, self.open_now)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                await self.handler(Visit(head, reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open_now -= 1
            writer.close()


@asynccontextmanager
async def running_host(handler: Handler, ssl=None, address: str = ALLOWED) -> AsyncIterator[Host]:
    host = Host(handler)
    server = await asyncio.start_server(host.serve, address, 0, ssl=ssl)
    host.port = server.sockets[0].getsockname()[1]
    try:
        yield host
    finally:
        # Not wait_closed, which waits for hosts that never end.
        server.close()


@dataclass
class Canary:
    """Listens where nobody may call."""

    port: int = 0
    accepts: int = 0

    async def accept(self, reader, writer) -> None:
        self.accepts += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")
        writer.close()


@asynccontextmanager
async def running_canary(*addresses: str, port: int = 0) -> AsyncIterator[Canary]:
    """One port, any or the given one, on all these addresses."""
    canary = Canary(port)
    async with AsyncExitStack() as stack:
        for address in addresses:
            server = await asyncio.start_server(
                canary.accept, address, canary.port, reuse_address=True
            )
            stack.callback(server.close)
            canary.port = server.sockets[0].getsockname()[1]
        yield canary


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
    raise AssertionError("no object is asked for")


def fetch_settings(names: Names, *ports: int, **others) -> FetchSettings:
    """Allows http, these ports, and the one address that stands for public ones."""
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
