"""What callers would have us call that only we can reach (server-side request forgery)."""

import ssl
import statistics
import time

import pytest
import trustme
from image_categorizer_server.egress.fetcher import UNREACHABLE, Unreachable, open_fetcher
from image_categorizer_server.egress.network import own_addresses
from image_categorizer_server.errors import ImageUnreachable

from tests.conftest import SLACK_S
from tests.support.bad_urls import BAD_URLS
from tests.support.hosts import (
    ALLOWED,
    MAX_BYTES,
    ON_LINUX,
    PRIVATE,
    fetch_settings,
    flips,
    no_objects,
    picture,
    running_canary,
    running_host,
)

pytestmark = ON_LINUX


def variants(port):
    """The URLs as they are, on https, and aimed at the canary's port."""
    for url in BAD_URLS:
        yield url
        if url.startswith("http://"):
            yield url.replace("http://", "https://", 1)
            scheme, rest = url.split("://", 1)
            host = rest.split("/")[0].split("#")[0]
            if not host.endswith(":6379"):
                yield f"{scheme}://{host}:{port}/"


def bad_names(names):
    own = [str(address) for address in own_addresses() if not address.is_loopback][:1]
    names.records |= {
        "loop.test": [PRIVATE],
        "mixed.test": [ALLOWED, PRIVATE],
        "ten.test": [*[ALLOWED] * 9, "10.0.0.1"],
        "six.test": ["::1"],
        "both.test": [ALLOWED, "::1"],
        "mapped.test": [f"::ffff:{PRIVATE}"],
        "alias.test": ["=localhost.test"],
        "localhost.test": [PRIVATE],
        "many.test": [f"127.0.{n // 250}.{n % 250 + 1}" for n in range(500)],
        "own.test": own or [PRIVATE],
        "none.test": [],
    }
    names.silent.add("silent.test")
    return ["localhost", "LOCALHOST.", "unknown.test", "silent.test", *names.records]


async def test_no_bad_url_and_no_bad_name_reaches_anything(names, canary):
    hosts = [name for name in bad_names(names) if name != "photos.test"]
    urls = [*variants(canary.port), *(f"http://{host}:{canary.port}/" for host in hosts)]
    assert len(urls) >= 200
    ports = (canary.port, 6379, 22)
    texts, slowest_s = set(), 0.0
    async with open_fetcher(fetch_settings(names, *ports), no_objects) as fetcher:
        for url in urls:
            began_s = time.monotonic()
            with pytest.raises(ImageUnreachable) as refused:
                await fetcher.fetch(url, MAX_BYTES)
            slowest_s = max(slowest_s, time.monotonic() - began_s)
            texts.add(refused.value.message)
            with pytest.raises(Unreachable):
                await fetcher.check(url)
            with pytest.raises(Unreachable):
                await fetcher.post(url, {}, b"{}", 5)
    print(f"{len(urls)} URLs three ways: slowest refusal {slowest_s * 1000:.0f} ms")
    assert texts == {UNREACHABLE}
    assert slowest_s <= SLACK_S


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_judged_like_any_url(names, canary, status):
    bad_names(names)
    locations = [*variants(canary.port), f"//loop.test:{canary.port}/", "///x", f"http://{PRIVATE}"]
    location = ""

    async def redirect(visit):
        await visit.send(f"{status} Moved", b"", f"Location: {location}")

    async with (
        running_host(redirect) as host,
        open_fetcher(fetch_settings(names, host.port, canary.port), no_objects) as fetcher,
    ):
        for url in locations:
            location = url.encode().decode("latin-1")
            if not location.strip() or {"\r", "\n", "\x00"} & set(location):
                continue  # no header holds them
            with pytest.raises(ImageUnreachable) as refused:
                await fetcher.fetch(f"http://photos.test:{host.port}/", MAX_BYTES)
            assert refused.value.message == UNREACHABLE


async def flipping(names, tries):
    """Asks `tries` times for a name whose address is public and private in turn."""
    names.records["flip.test"] = flips(ALLOWED, PRIVATE)
    seen = []

    async def answer(visit):
        await visit.send("200 OK", b"picture", "Connection: close")

    async with (
        running_host(answer) as host,
        running_canary(PRIVATE, port=host.port) as twin,
        open_fetcher(fetch_settings(names, host.port), no_objects) as fetcher,
    ):
        for number in range(tries):
            url = f"http://flip.test:{host.port}/{number}"
            try:
                seen.append(await fetcher.fetch(url, MAX_BYTES))
            except ImageUnreachable:
                seen.append(None)
        assert twin.accepts == 0
    return seen


@pytest.mark.parametrize(
    "tries", [90, pytest.param(1000, marks=pytest.mark.slow)], ids=["short", "full"]
)
async def test_a_name_that_flips_leads_nowhere_private(names, tries):
    seen = await flipping(names, tries)
    fetched = seen.count(b"picture")
    print(f"{tries} flips: {fetched} fetched, {seen.count(None)} refused, 0 led astray")
    assert fetched == tries // 2
    assert fetched + seen.count(None) == tries


async def test_a_name_that_is_private_at_the_second_look_is_refused_then(names, canary):
    async with open_fetcher(fetch_settings(names, canary.port), no_objects) as fetcher:
        url = f"http://hook.test:{canary.port}/"
        names.records["hook.test"] = [ALLOWED]
        await fetcher.check(url)
        names.records["hook.test"] = [PRIVATE]
        with pytest.raises(Unreachable) as refused:
            await fetcher.post(url, {}, b"{}", 5)
        assert not refused.value.is_transient


async def test_open_and_closed_ports_look_the_same(names, canary):
    names.records["loop.test"] = [PRIVATE]
    closed = 1
    took_s = {canary.port: [], closed: []}
    async with open_fetcher(fetch_settings(names, canary.port, closed), no_objects) as fetcher:
        for port in [canary.port, closed] * 20:
            began_s = time.perf_counter()
            with pytest.raises(ImageUnreachable):
                await fetcher.fetch(f"http://loop.test:{port}/", MAX_BYTES)
            took_s[port].append(time.perf_counter() - began_s)
    medians = [statistics.median(times) for times in took_s.values()]
    assert abs(medians[0] - medians[1]) < 0.05


async def test_redirects_are_followed_so_far_and_no_further(names):
    async def chain(visit):
        left = int(visit.head.split(b" ")[1].lstrip(b"/"))
        if left:
            await visit.send("302 Found", b"", f"Location: {left - 1}")
        else:
            await picture(visit)

    async with (
        running_host(chain) as host,
        open_fetcher(fetch_settings(names, host.port), no_objects) as fetcher,
    ):
        assert await fetcher.fetch(f"http://photos.test:{host.port}/3", MAX_BYTES) == b"picture"
        with pytest.raises(ImageUnreachable):
            await fetcher.fetch(f"http://photos.test:{host.port}/4", MAX_BYTES)
        assert len(host.heads) == 8


async def test_https_does_not_lead_to_http(names, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("photos.test").configure_cert(context)
    async with running_host(picture) as plain:

        async def redirect(visit):
            await visit.send("302 Found", b"", f"Location: http://photos.test:{plain.port}/")

        async with running_host(redirect, context) as host:
            own = fetch_settings(names, host.port, plain.port, ca_file=str(tmp_path / "ca.pem"))
            async with open_fetcher(own, no_objects) as fetcher:
                with pytest.raises(ImageUnreachable):
                    await fetcher.fetch(f"https://photos.test:{host.port}/", MAX_BYTES)
        assert plain.heads == []
