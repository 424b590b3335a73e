"""Connections that ask nothing are closed, and one address cannot keep the others out."""

import multiprocessing
import socket
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import grpc
import pytest
from image_categorizer.v1 import classify_pb2, classify_pb2_grpc, health_pb2, health_pb2_grpc

from tests.support import raw_http
from tests.support.pictures import jpeg
from tests.support.polling import pause, wait_until

LIMIT = 100
"""Connections of one address, in the installation `hasty`."""
DROPPED = 9000
"""Connections that one address opens and drops within about a second."""
LAST_DROPPED = 900
NEW_PER_S = 150
"""Connections that one address may open in a second, in the installation `hasty`."""
ATTACKER, OTHERS = "127.0.0.2", ("127.0.0.1", "127.0.0.3")
FLOODER, SILENT = "127.0.0.4", "127.0.0.5"
"""Each of these addresses is in a group of its own: none uses up what another may open."""
HTTP2 = raw_http.PREFACE + raw_http.frame(raw_http.SETTINGS, 0, 0)
# Without the flag END_HEADERS more would have to follow.
HALF_HEADERS = raw_http.frame(raw_http.HEADERS, raw_http.END_STREAM, 1, b"\x82")
REQUEST = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
UNFINISHED = {
    "no byte": b"",
    "one byte": b"G",
    "half a preface": raw_http.PREFACE[:10],
    "half a header": REQUEST[:-6],
    "HTTP/2 without a request": HTTP2,
    "HTTP/2 with half a header": HTTP2 + HALF_HEADERS,
    "one request": REQUEST,
}


@contextmanager
def held(port: int, count: int, first: bytes, source: str) -> Iterator[list[socket.socket]]:
    """Opens connections from one address, sends the same on each, and holds them."""
    with ExitStack() as stack:
        opened = []
        for _ in range(count):
            connection = raw_http.connected(port, source=source)
            stack.callback(connection.close)
            connection.sendall(first)
            connection.setblocking(False)
            opened.append(connection)
        yield opened


def is_closed(connection: socket.socket) -> bool:
    """Returns whether the other side has closed, after reading what it sent."""
    try:
        while connection.recv(65_536):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        pass
    return True


def seconds_to_answer(port: int, source: str) -> float:
    """Asks on a new connection. Returns how long the answer took."""
    begun_s = time.monotonic()
    with raw_http.connected(port, source=source) as connection:
        connection.sendall(REQUEST)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
    return time.monotonic() - begun_s


def test_connections_that_ask_nothing_are_closed(hasty):
    with ExitStack() as stack:
        open_ = {
            name: stack.enter_context(held(hasty.port, 1, first, "127.0.0.1"))[0]
            for name, first in UNFINISHED.items()
        }

        def all_closed() -> bool:
            for name in [name for name, one in open_.items() if is_closed(one)]:
                del open_[name]
            return not open_

        try:
            wait_until(all_closed, 20, 0.1)
        except AssertionError:
            raise AssertionError(f"still open: {', '.join(open_)}") from None


@pytest.mark.parametrize("first", [REQUEST, REQUEST[:-6], HTTP2, HTTP2 + HALF_HEADERS])
def test_one_address_that_holds_all_it_can_leaves_room_for_the_others(hasty, first):
    with held(hasty.port, 3 * LIMIT, first, ATTACKER) as connections:
        wait_until(lambda: sum(map(is_closed, connections)) >= 2 * LIMIT)
        for source in OTHERS:
            assert seconds_to_answer(hasty.port, source) < 1


def test_an_address_opens_only_so_many_connections_in_a_second(hasty):
    begun_s, answered = time.monotonic(), 0
    for _ in range(5 * NEW_PER_S):
        with raw_http.connected(hasty.port, source=FLOODER) as connection:
            connection.sendall(REQUEST)
            with suppress(ConnectionError):
                answered += connection.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert 0 < answered <= NEW_PER_S * (1 + time.monotonic() - begun_s)


def flood(port: int, count: int) -> None:
    """Opens connections from one address, holds some of them for a moment, and drops them."""
    last = deque[socket.socket]()
    for _ in range(count):
        connection = raw_http.connected(port, source=FLOODER)
        connection.sendall(REQUEST)
        last.append(connection)
        if len(last) > LAST_DROPPED:
            last.popleft().close()
    for connection in last:
        connection.close()


def test_one_address_that_opens_and_drops_connections_leaves_room_for_the_others(up):
    spawning = multiprocessing.get_context("spawn")
    floods = [spawning.Process(target=flood, args=(up.port, DROPPED // 2)) for _ in range(2)]
    for process in floods:
        process.start()
    while any(process.is_alive() for process in floods):
        pause(0.05)  # callers that flood, too, are not healthy
        for source in OTHERS:
            assert seconds_to_answer(up.port, source) < 1
    assert [process.exitcode for process in floods] == [0, 0]


def test_connections_without_a_byte_leave_room_even_for_their_own_address(hasty):
    with held(hasty.port, 10 * LIMIT, b"", SILENT):
        for source in (SILENT, *OTHERS):
            assert seconds_to_answer(hasty.port, source) < 1


def test_a_client_whose_idle_connection_was_closed_reconnects(hasty):
    with grpc.insecure_channel(f"127.0.0.1:{hasty.port}") as channel:
        states: list[grpc.ChannelConnectivity] = []
        channel.subscribe(states.append)
        stub = health_pb2_grpc.HealthServiceStub(channel)
        for _ in range(2):
            assert stub.GetLiveness(health_pb2.GetLivenessRequest(), timeout=10).live
            wait_until(lambda: states[-1] is grpc.ChannelConnectivity.IDLE)
        assert stub.GetLiveness(health_pb2.GetLivenessRequest(), timeout=10).live


def test_a_silent_stream_outlives_the_time_of_idle_connections(hasty):
    headers = [("authorization", f"Bearer {hasty.shown_key()}")]

    def messages() -> Iterator[classify_pb2.ClassifyStreamRequest]:
        yield classify_pb2.ClassifyStreamRequest(config=classify_pb2.ClassifyStreamConfig())
        pause(3.5)
        item = classify_pb2.ClassifyStreamItem(key="late", image=jpeg())
        yield classify_pb2.ClassifyStreamRequest(item=item)

    with grpc.insecure_channel(f"127.0.0.1:{hasty.port}") as channel:
        stub = classify_pb2_grpc.ClassifyServiceStub(channel)
        answers = list(stub.ClassifyStream(messages(), metadata=headers, timeout=30))
    assert [(a.key, a.WhichOneof("outcome")) for a in answers] == [("late", "response")]
