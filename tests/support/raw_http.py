"""HTTP/1.1 and HTTP/2 requests with headers that no client library would send."""

import socket
from collections.abc import Iterable
from contextlib import closing
from http.client import HTTPMessage, HTTPResponse

Headers = Iterable[tuple[bytes, bytes]]
TIMEOUT_S = 10.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
ACK = END_STREAM = 0x1
END_HEADERS = 0x4
FRAME_HEAD_BYTES = 9
EMPTY_MESSAGE = bytes(5)  # gRPC's prefix: not compressed, no bytes
NO_ANSWER = 0
"""In place of a status, if the connection closed without an answer."""


def connected(port: int, host: str = "127.0.0.1", source: str = "127.0.0.1") -> socket.socket:
    """Returns a connection from the address `source`."""
    return socket.create_connection((host, port), TIMEOUT_S, source_address=(source, 0))


def http1(
    port: int, target: bytes, headers: Headers = (), body: bytes = b""
) -> tuple[int, HTTPMessage, bytes]:
    """Sends one request, a POST if it has a body. Returns status, headers and body."""
    method = b"POST" if body else b"GET"
    fields = [(b"host", b"localhost"), (b"connection", b"close"), *headers]
    if body:
        fields.append((b"content-length", str(len(body)).encode()))
    head = b"".join(b"%s: %s\r\n" % field for field in fields)
    return exchanged(port, b"%s %s HTTP/1.1\r\n%s\r\n%s" % (method, target, head, body))


def exchanged(port: int, request: bytes) -> tuple[int, HTTPMessage, bytes]:
    """Sends a request by HTTP/1.1. Returns status, headers and body."""
    with closing(connected(port)) as connection:
        answer = HTTPResponse(connection)
        try:
            connection.sendall(request)
            answer.begin()
            return answer.status, answer.headers, answer.read()
        except ConnectionError:
            return NO_ANSWER, HTTPMessage(), b""


def frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    """Returns a frame of HTTP/2."""
    head = len(content).to_bytes(3, "big") + bytes([kind, flags])
    return head + stream.to_bytes(4, "big") + content


def block(headers: Headers) -> bytes:
    """Returns headers as HPACK literals, which are not indexed."""
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in headers)


def grpc_call(
    path: bytes, headers: Headers = (), trailers: Headers = (), method: bytes = b"POST"
) -> bytes:
    """Returns a connection's bytes: the preface and one call with an empty message."""
    trailer = block(trailers)
    own = [
        (b":method", method),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"localhost"),
    ]
    return b"".join(
        [
            PREFACE,
            frame(SETTINGS, 0, 0),
            frame(HEADERS, END_HEADERS, 1, block([*own, *headers])),
            frame(DATA, 0 if trailer else END_STREAM, 1, EMPTY_MESSAGE),
            frame(HEADERS, END_HEADERS | END_STREAM, 1, trailer) if trailer else b"",
        ]
    )


def http2_ended(port: int, request: bytes) -> bool:
    """Sends a connection's bytes. Returns whether its stream 1 or the connection ended in time."""
    with closing(connected(port)) as connection, connection.makefile("rb") as arriving:
        try:
            connection.sendall(request)
            while len(head := arriving.read(FRAME_HEAD_BYTES)) == FRAME_HEAD_BYTES:
                arriving.read(int.from_bytes(head[:3], "big"))
                kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
                if kind in (RST_STREAM, GOAWAY):
                    return True
                if stream and kind in (DATA, HEADERS) and flags & END_STREAM:
                    return True
        except TimeoutError:
            return False
        except ConnectionError:
            pass
    return True


def _text(text: bytes) -> bytes:
    """Returns a string of HPACK: its length with a prefix of 7 bits, and its bytes."""
    if len(text) < 127:
        return bytes([len(text)]) + text
    rest, length = len(text) - 127, bytearray([127])
    while rest >= 128:
        length.append(rest % 128 + 128)
        rest //= 128
    return bytes(length) + bytes([rest]) + text
