"""A gRPC client that costs almost no CPU time: unary calls of one method over one connection.

The load generator shares the cores with the server it measures. grpc.aio's client would take 0.2
core-milliseconds per call away from the server, which a client on another machine does not.

Implements only the part of HTTP/2 (RFC 9113) that unary calls need. It does not read the headers of
an answer: an answer with a message is a success, one without is a failure.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
ACK = END_STREAM = 0x1
END_HEADERS = 0x4
INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 4, 5
FRAME_HEAD_BYTES, PREFIX_BYTES = 9, 5
# HPACK (RFC 7541): `:method: POST` and `:scheme: http` are in the static table. Entries of the
# dynamic table follow its 61 entries, newest first.
POST_HTTP, FIRST_DYNAMIC = b"\x83\x86", 62
WITH_INDEXING, INDEXED = b"\x40", 0x80


def message(content: bytes) -> bytes:
    """Returns a message with gRPC's prefix: not compressed, and its length."""
    return b"\0" + len(content).to_bytes(4, "big") + content


@dataclass(slots=True)
class _Call:
    """A call in progress."""

    rest: memoryview
    """What is left to send of the request."""
    window: int
    """Bytes that the server accepts on this stream."""
    answer: "asyncio.Future[bytes]"
    received: bytearray = field(default_factory=bytearray)


class Connection(asyncio.Protocol):
    """A connection that any number of callers share."""

    def __init__(self, path: str, headers: Sequence[tuple[str, str]]) -> None:
        """Prepares a connection for calls of one method.

        Args:
            path: `/package.Service/Method`.
            headers: headers of each call, in addition to gRPC's own.
        """
        fixed = [(":path", path), (":authority", "localhost"), ("te", "trailers")]
        named = [*fixed, ("content-type", "application/grpc"), *headers]
        self._first = POST_HTTP + b"".join(_literal(*header) for header in named)
        self._later = POST_HTTP + bytes(
            INDEXED | FIRST_DYNAMIC + place for place in reversed(range(len(named)))
        )
        self._calls: dict[int, _Call] = {}
        self._next_stream = 1
        self._window = self._initial_window = 65_535
        self._frame_bytes = 16_384
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Sends the preface, and a window so large that the server never waits for it."""
        self._transport = cast("asyncio.WriteTransport", transport)
        window = _frame(WINDOW_UPDATE, 0, 0, (2**30).to_bytes(4, "big"))
        self._transport.write(PREFACE + _frame(SETTINGS, 0, 0) + window)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fails all calls in progress."""
        for call in self._calls.values():
            if not call.answer.done():
                error = ConnectionError("the server closed the connection")
                error.__cause__ = exc
                call.answer.set_exception(error)

    async def call(self, request: bytes) -> bytes:
        """Returns the serialized answer.

        Args:
            request: a message as returned by `message`.

        Raises:
            RuntimeError: the server refused the call.
            ConnectionError: the server closed the connection.
        """
        if self._transport.is_closing():
            raise ConnectionError("the server closed the connection")
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        block = self._first if stream == 1 else self._later
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        call = _Call(memoryview(request), self._initial_window, answer)
        self._calls[stream] = call
        self._send(stream, call, [_frame(HEADERS, END_HEADERS, stream, block)])
        try:
            return await answer
        finally:
            del self._calls[stream]

    def data_received(self, data: bytes) -> None:
        """Handles complete frames, and keeps the rest."""
        data, start = self._buffer + data, 0
        while (body := start + FRAME_HEAD_BYTES) <= len(data):
            end = body + int.from_bytes(data[start : start + 3], "big")
            if end > len(data):
                break
            stream = int.from_bytes(data[start + 5 : body], "big")
            self._read(data[start + 3], data[start + 4], stream, data[body:end])
            start = end
        self._buffer = data[start:]

    def _read(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        call = self._calls.get(stream)
        if kind == WINDOW_UPDATE:
            self._widen(stream, int.from_bytes(payload, "big"))
        elif kind == SETTINGS and not flags & ACK:
            self._set(payload)
        elif kind == PING and not flags & ACK:
            self._transport.write(_frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            self._transport.close()
        elif call is None or call.answer.done():
            return
        elif kind == DATA:
            call.received += payload
        elif kind == RST_STREAM or (kind == HEADERS and flags & END_STREAM):
            if len(call.received) >= PREFIX_BYTES and kind == HEADERS:
                call.answer.set_result(bytes(call.received[PREFIX_BYTES:]))
            else:
                call.answer.set_exception(RuntimeError("the server refused a call"))

    def _set(self, payload: bytes) -> None:
        for start in range(0, len(payload), 6):
            key = int.from_bytes(payload[start : start + 2], "big")
            value = int.from_bytes(payload[start + 2 : start + 6], "big")
            if key == MAX_FRAME_SIZE:
                self._frame_bytes = value
            elif key == INITIAL_WINDOW_SIZE:
                for call in self._calls.values():
                    call.window += value - self._initial_window
                self._initial_window = value
        self._transport.write(_frame(SETTINGS, ACK, 0))
        self._send_all()

    def _widen(self, stream: int, more: int) -> None:
        if stream == 0:
            self._window += more
            self._send_all()
        elif call := self._calls.get(stream):
            call.window += more
            self._send(stream, call, [])

    def _send_all(self) -> None:
        for stream, call in self._calls.items():
            self._send(stream, call, [])

    def _send(self, stream: int, call: _Call, parts: list[bytes | memoryview]) -> None:
        """Sends `parts`, and as much of the request as the flow-control windows allow."""
        while call.rest:
            size = min(len(call.rest), self._frame_bytes, call.window, self._window)
            if size <= 0:
                break
            chunk, call.rest = call.rest[:size], call.rest[size:]
            call.window -= size
            self._window -= size
            parts += [_head(size, DATA, 0 if call.rest else END_STREAM, stream), chunk]
        if parts:
            self._transport.writelines(parts)


def _literal(name: str, value: str) -> bytes:
    """Returns a header field to add to the dynamic table, without Huffman coding."""
    return WITH_INDEXING + b"".join(_integer(len(text)) + text.encode() for text in (name, value))


def _integer(value: int) -> bytes:
    """Returns the length of a string, with a 7-bit prefix (RFC 7541, section 5.1)."""
    if value < 127:
        return bytes([value])
    rest, encoded = value - 127, b"\x7f"
    while rest >= 128:
        encoded += bytes([rest % 128 | 128])
        rest //= 128
    return encoded + bytes([rest])


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return _head(len(payload), kind, flags, stream) + payload


def _head(size: int, kind: int, flags: int, stream: int) -> bytes:
    return size.to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")


@asynccontextmanager
async def connected(
    address: str, path: str, headers: Sequence[tuple[str, str]]
) -> AsyncIterator[Connection]:
    """Yields a connection to `host:port` or `unix:PATH`, without TLS."""
    loop = asyncio.get_running_loop()
    if address.startswith("unix:"):
        opening = loop.create_unix_connection(
            lambda: Connection(path, headers), address.removeprefix("unix:")
        )
    else:
        host, port = address.rsplit(":", 1)
        opening = loop.create_connection(lambda: Connection(path, headers), host, int(port))
    transport, connection = await opening
    try:
        yield connection
    finally:
        transport.close()
