"""Calls to hosts that users name: requests, retries, and concurrent calls to one host."""

import asyncio
import ssl
import time

import pytest
import trustme
from image_categorizer_server.egress.fetcher import Unreachable, open_fetcher
from image_categorizer_server.errors import DependencyDown, ImageUnreachable, OperatorError

from tests.conftest import SLACK_S
from tests.support.hosts import (
    ALLOWED,
    MAX_BYTES,
    ON_LINUX,
    PRIVATE,
    endless,
    fetch_settings,
    no_objects,
    picture,
    running_host,
    silent,
)
from tests.support.polling import elapsed, eventually

pytestmark = ON_LINUX


class ServerContext(ssl.SSLContext):
    """Records the names that clients ask for."""

    def __init__(self, protocol: int) -> None:
        self.asked_for: list[str] = []
        self.sni_callback = lambda _, name, __: self.asked_for.append(name)


async def test_a_picture_is_fetched_without_sending_credentials(names, canary, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://{PRIVATE}:{canary.port}")
    monkeypatch.setenv("ALL_PROXY", f"http://{PRIVATE}:{canary.port}")
    async with (
        running_host(picture) as host,
        open_fetcher(fetch_settings(names, host.port), no_objects) as fetcher,
    ):
        for _ in range(2):
            url = f"http://Photos.test:{host.port}/a.jpg?sig=x#y"
            assert await fetcher.fetch(url, MAX_BYTES) == b"picture"
        head = host.heads[0].decode().lower()
        assert head.startswith("get /a.jpg?sig=x http/1.1\r\n")
        assert f"host: photos.test:{host.port}\r\n" in head
        assert "accept-encoding: identity" in head
        assert "authorization" not in head
        assert "cookie" not in head
        assert host.max_connections == 1


async def test_a_certificate_must_match_the_name(names, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("photos.test").configure_cert(context)
    names.records["other.test"] = [ALLOWED]
    async with running_host(picture, context) as host:
        trusting = fetch_settings(names, host.port, ca_file=str(tmp_path / "ca.pem"))
        async with open_fetcher(trusting, no_objects) as fetcher:
            assert await fetcher.fetch(f"https://photos.test:{host.port}/", MAX_BYTES) == b"picture"
            assert context.asked_for == ["photos.test"]
            with pytest.raises(ImageUnreachable):
                await fetcher.fetch(f"https://other.test:{host.port}/", MAX_BYTES)
        async with open_fetcher(fetch_settings(names, host.port), no_objects) as fetcher:
            with pytest.raises(ImageUnreachable):
                await fetcher.fetch(f"https://photos.test:{host.port}/", MAX_BYTES)
    assert len(host.heads) == 1
    with pytest.raises(OperatorError, match="CA_FILE"):
        async with open_fetcher(fetch_settings(names, ca_file="/none"), no_objects):
            pass


async def test_object_uris_go_to_the_object_reader(names):
    read_uris = []

    async def read(uri, max_bytes):
        read_uris.append((uri, max_bytes))
        await elapsed(0.05 if "slow" not in uri else 60)
        return b"object"

    async with open_fetcher(fetch_settings(names, timeout_s=0.3), read) as fetcher:
        assert await fetcher.fetch("s3://bucket/key", MAX_BYTES) == b"object"
        with pytest.raises(ImageUnreachable):
            await fetcher.fetch("az://bucket/slow", MAX_BYTES)
    assert read_uris == [("s3://bucket/key", MAX_BYTES), ("az://bucket/slow", MAX_BYTES)]


async def test_a_call_is_repeated_if_the_host_fails_and_not_if_it_refuses(names):
    statuses = iter(["503 Busy", "200 OK", "404 Not Found", "500 E", "500 E", "500 E", "200 OK"])

    async def varies(visit):
        await visit.send(next(statuses), b"x")

    async with (
        running_host(varies) as host,
        open_fetcher(fetch_settings(names, host.port, max_retries=2), no_objects) as fetcher,
    ):
        url = f"http://photos.test:{host.port}/"
        assert await fetcher.fetch(url, MAX_BYTES) == b"x"
        assert len(host.heads) == 2
        with pytest.raises(ImageUnreachable):
            await fetcher.fetch(url, MAX_BYTES)
        assert len(host.heads) == 3
        with pytest.raises(ImageUnreachable):
            await fetcher.fetch(url, MAX_BYTES)
        assert len(host.heads) == 6


async def test_concurrent_calls_to_a_host_are_limited(names):
    async def slow(visit):
        await elapsed(0.02)
        await picture(visit)

    async with (
        running_host(slow) as host,
        open_fetcher(fetch_settings(names, host.port, max_per_host=4), no_objects) as fetcher,
    ):
        url = f"http://photos.test:{host.port}/"
        answers = await asyncio.gather(*(fetcher.fetch(url, MAX_BYTES) for _ in range(40)))
        assert answers == [b"picture"] * 40
        assert host.max_connections <= 4


async def test_a_call_that_waits_for_its_turn_has_its_whole_time_afterwards(names):
    async def slow(visit):
        await elapsed(0.3)
        await picture(visit)

    async with running_host(slow) as host:
        own = {"max_per_host": 1, "timeout_s": 0.6}
        url = f"http://photos.test:{host.port}/"
        async with open_fetcher(fetch_settings(names, host.port, **own), no_objects) as fetcher:
            assert (
                len(await asyncio.gather(*(fetcher.fetch(url, MAX_BYTES) for _ in range(5)))) == 5
            )
        hasty = fetch_settings(names, host.port, max_wait_s=0.4, **own)
        async with open_fetcher(hasty, no_objects) as fetcher:
            calls = [fetcher.fetch(url, MAX_BYTES) for _ in range(4)]
            answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(answer) for answer in answers[:2]] == [bytes, bytes]
        # The others were not sent, and may succeed later.
        assert all(isinstance(answer, DependencyDown) for answer in answers[2:])


async def test_a_call_cancelled_at_any_moment_frees_its_turn(names):
    speaks = asyncio.Event()

    async def silent_at_first(visit):
        await (picture if speaks.is_set() else silent)(visit)

    async with (
        running_host(silent_at_first) as host,
        open_fetcher(fetch_settings(names, host.port, max_connections=4), no_objects) as fetcher,
    ):
        url = f"http://photos.test:{host.port}/"
        for steps in range(60):
            async with asyncio.TaskGroup() as group:
                calls = [group.create_task(fetcher.fetch(url, MAX_BYTES)) for _ in range(4)]
                await eventually(lambda: host.connections, interval_s=0)
                for _ in range(steps % 12):
                    await elapsed(0)
                for call in calls:
                    call.cancel()
            await eventually(lambda: host.connections == 0)
        speaks.set()
        assert await fetcher.fetch(url, MAX_BYTES) == b"picture"


async def test_a_post_is_sent_once_and_follows_no_redirect(names, canary):
    statuses = iter(["204 No Content", "302 Found", "500 E", "410 Gone"])
    bodies = []

    async def receive(visit):
        bodies.append(await visit.reader.readexactly(7))
        extra = ["Retry-After: 7", f"Location: http://{PRIVATE}:{canary.port}/"]
        await visit.send(next(statuses), b"", *extra)

    async with (
        running_host(receive) as host,
        open_fetcher(fetch_settings(names, host.port, max_retries=2), no_objects) as fetcher,
    ):
        url = f"http://photos.test:{host.port}/hook"
        sent = {"Content-Type": "application/json", "webhook-id": "m1"}
        answers = [await fetcher.post(url, sent, b'{"a":1}', 5) for _ in range(4)]
        assert [answer.status for answer in answers] == [204, 302, 500, 410]
        assert answers[1].headers["retry-after"] == "7"
        assert bodies == [b'{"a":1}'] * 4
        assert b"webhook-id: m1\r\n" in host.heads[0]


async def test_a_receiver_that_does_not_answer_costs_its_deadline(names):
    async with (
        running_host(silent) as host,
        running_host(endless) as talker,
        open_fetcher(fetch_settings(names, host.port, talker.port), no_objects) as fetcher,
    ):
        began_s = time.monotonic()
        with pytest.raises(Unreachable) as refused:
            await fetcher.post(f"http://photos.test:{host.port}/", {}, b"{}", 0.4)
        assert refused.value.is_transient
        assert time.monotonic() - began_s < 0.4 + SLACK_S
        answer = await fetcher.post(f"http://photos.test:{talker.port}/", {}, b"{}", 2)
        assert answer.status == 200
