"""Hosts that mean harm: slow, endless, compressed, lying."""

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
    MOST_BYTES,
    ON_LINUX,
    endless,
    fetch_settings,
    no_objects,
    picture,
    running_host,
    silent,
)

pytestmark = ON_LINUX


async def drip(visit):
    visit.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        visit.writer.write(b"x")
        await visit.writer.drain()
        await asyncio.sleep(1)


async def huge(visit):
    visit.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
    while True:
        visit.writer.write(b"x" * 65_536)
        await visit.writer.drain()


async def bomb(visit):
    await visit.send("200 OK", b"\x1f\x8b" + b"x" * 100, "Content-Encoding: gzip")


async def loop(visit):
    await visit.send("302 Found", b"", "Location: /")


async def headers(visit):
    visit.writer.write(b"HTTP/1.1 200 OK\r\n")
    for n in itertools.count():
        visit.writer.write(b"X-%d: " % n + b"x" * 4000 + b"\r\n")
        await visit.writer.drain()


async def informs(visit):
    while True:
        visit.writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 500)
        await visit.writer.drain()


async def resets(visit):
    visit.writer.transport.abort()


async def ends_early(visit):
    visit.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx")
    visit.writer.close()


async def nonsense(visit):
    visit.writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")


HARM = [drip, endless, huge, bomb, loop, headers, informs, silent, resets, ends_early, nonsense]


async def hostile(names, timeout_s, copies, good_count):
    """Calls all of `HARM` so many times, and good hosts meanwhile; returns what they took."""
    async with AsyncExitStack() as stack:
        bad = [
            await stack.enter_async_context(running_host(handler))
            for handler in HARM
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
                await fetcher.fetch(f"http://photos.test:{port}/", MOST_BYTES)
                outcome = "fetched"
            except (ImageUnreachable, ImageTooLarge) as error:
                outcome = type(error).__name__
            return outcome, time.monotonic() - began_s

        calls = [asyncio.create_task(call(host.port)) for host in bad]
        good_ones = []
        for _ in range(good_count):
            good_ones.append(await call(good.port))
            await asyncio.sleep(0.02)
        return await asyncio.gather(*calls), good_ones


@pytest.mark.parametrize(
    ("timeout_s", "copies", "good_count", "slack_s"),
    [(1, 1, 20, SLACK_S), pytest.param(10, 5, 200, 0.5, marks=pytest.mark.slow)],
    ids=["short", "full"],
)
async def test_hosts_that_mean_harm_cost_their_deadline_at_most(
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
            await fetcher.fetch(f"https://photos.test:{port}/", MOST_BYTES)
        assert time.monotonic() - began_s < 0.5 + SLACK_S
    server.close()


async def test_no_more_is_read_than_asked_for(names):
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
    # What the kernel's buffers took is not read.
    assert sent < 20 * 2**20
