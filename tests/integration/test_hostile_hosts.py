"""Malicious hosts: slow, endless, compressed, lying."""

import asyncio
import itertools
import statistics
import time
from contextlib import AsyncExitStack

import pytest
from image_categorizer_server.egress.fetcher import open_fetcher
from image_categorizer_server.errors import ImageTooLarge, ImageUnreachable

from tests.conftest import SLACK_S
from tests.support.hosts import (
    ALLOWED,
    MAX_BYTES,
    ON_LINUX,
    endless,
    fetch_settings,
    no_objects,
    picture,
    running_host,
    silent,
)
from tests.support.polling import elapsed

pytestmark = ON_LINUX


async def drips(visit):
    visit.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        visit.writer.write(b"x")
        await visit.writer.drain()
        await elapsed(1)


async def sends_gigabytes(visit):
    visit.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
    while True:
        visit.writer.write(b"x" * 65_536)
        await visit.writer.drain()


async def sends_a_bomb(visit):
    await visit.send("200 OK", b"\x1f\x8b" + b"x" * 100, "Content-Encoding: gzip")


async def redirects_to_itself(visit):
    await visit.send("302 Found", b"", "Location: /")


async def sends_endless_headers(visit):
    visit.writer.write(b"HTTP/1.1 200 OK\r\n")
    for n in itertools.count():
        visit.writer.write(b"X-%d: " % n + b"x" * 4000 + b"\r\n")
        await visit.writer.drain()


async def sends_endless_hints(visit):
    while True:
        visit.writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 500)
        await visit.writer.drain()


async def resets(visit):
    visit.writer.transport.abort()


async def ends_early(visit):
    visit.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx")
    visit.writer.close()


async def speaks_ssh(visit):
    visit.writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")


MALICIOUS = [
    drips,
    endless,
    sends_gigabytes,
    sends_a_bomb,
    redirects_to_itself,
    sends_endless_headers,
    sends_endless_hints,
    silent,
    resets,
    ends_early,
    speaks_ssh,
]


async def hostile(names, timeout_s, copies, good_count):
    """Calls the malicious hosts, and a good one meanwhile; returns outcomes and seconds of both."""
    async with AsyncExitStack() as stack:
        bad = [
            await stack.enter_async_context(running_host(handler))
            for handler in MALICIOUS
            for _ in range(copies)
        ]
        good = await stack.enter_async_context(running_host(picture))
        own = fetch_settings(
            names,
            good.port,
            *(host.port for host in bad),
            timeout_s=timeout_s,
            connect_timeout_s=timeout_s,
        )
        fetcher = await stack.enter_async_context(open_fetcher(own, no_objects))

        async def call(port):
            began_s = time.monotonic()
            try:
                await fetcher.fetch(f"http://photos.test:{port}/", MAX_BYTES)
                outcome = "fetched"
            except (ImageUnreachable, ImageTooLarge) as error:
                outcome = type(error).__name__
            return outcome, time.monotonic() - began_s

        calls = [asyncio.create_task(call(host.port)) for host in bad]
        good_ones = []
        for _ in range(good_count):
            good_ones.append(await call(good.port))
            await elapsed(0.02)
        return await asyncio.gather(*calls), good_ones


@pytest.mark.parametrize(
    ("timeout_s", "copies", "good_count", "slack_s"),
    [(1, 1, 20, SLACK_S), pytest.param(10, 5, 200, 0.5, marks=pytest.mark.slow)],
    ids=["short", "full"],
)
async def test_a_malicious_host_costs_its_deadline_at_most(
    names, timeout_s, copies, good_count, slack_s
):
    bad, good = await hostile(names, timeout_s, copies, good_count)
    assert {outcome for outcome, _ in bad} == {"ImageUnreachable", "ImageTooLarge"}
    assert {outcome for outcome, _ in good} == {"fetched"}
    slowest_s = max(took_s for _, took_s in bad)
    p95_s = statistics.quantiles([took_s for _, took_s in good], n=20)[-1]
    print(f"{len(bad)} hostile: slowest {slowest_s:.2f} s; good p95 {p95_s * 1000:.0f} ms")
    assert slowest_s <= timeout_s + slack_s
    assert p95_s <= 1.5 + slack_s


async def test_a_stalled_handshake_costs_the_deadline(names):
    async def stall(reader, writer):
        await reader.read()
        writer.close()

    server = await asyncio.start_server(stall, ALLOWED, 0)
    port = server.sockets[0].getsockname()[1]
    own = fetch_settings(names, port, timeout_s=0.5, connect_timeout_s=30)
    async with open_fetcher(own, no_objects) as fetcher:
        began_s = time.monotonic()
        with pytest.raises(ImageUnreachable):
            await fetcher.fetch(f"https://photos.test:{port}/", MAX_BYTES)
        assert time.monotonic() - began_s < 0.5 + SLACK_S
    server.close()


async def test_no_more_than_the_limit_is_read(names):
    sent = 0

    async def send(visit):
        nonlocal sent
        visit.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        visit.writer.transport.set_write_buffer_limits(high=0)
        while True:
            visit.writer.write(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
            await visit.writer.drain()
            sent += 0x8000

    async def exact(visit):
        await visit.send("200 OK", b"x" * 50_000)

    async with (
        running_host(send) as host,
        running_host(exact) as fits,
        open_fetcher(fetch_settings(names, host.port, fits.port), no_objects) as fetcher,
    ):
        with pytest.raises(ImageTooLarge, match="50000"):
            await fetcher.fetch(f"http://photos.test:{host.port}/", 50_000)
        assert len(await fetcher.fetch(f"http://photos.test:{fits.port}/", 50_000)) == 50_000
        with pytest.raises(ImageTooLarge):
            await fetcher.fetch(f"http://photos.test:{fits.port}/", 49_999)
    # More than was read: the kernel's buffers took the rest.
    assert sent < 20 * 2**20
