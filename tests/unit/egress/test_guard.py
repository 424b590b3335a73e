"""Which URLs and addresses may be called."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_categorizer_server.egress.guard import Guard, Refused, is_public
from image_categorizer_server.settings.fetch import FetchSettings

from tests.support.bad_urls import BAD_URLS

OPEN = FetchSettings(allow_http=True, allowed_ports=(6379, 22))


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_url_that_is_not_plainly_public_is_refused(url):
    for settings in (FetchSettings(), OPEN):
        with pytest.raises(Refused):
            Guard(settings).parse(url)


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("https://photos.test", "https://photos.test/"),
        ("HTTPS://Photos.TEST./A?b=%2F#c", "https://photos.test/A?b=%2F"),
        ("https://photos.test:443/a/../b", "https://photos.test/a/../b"),
        ("https://photos.test?q=1", "https://photos.test/?q=1"),
        ("https://xn--bcher-kva.test/ü", "https://xn--bcher-kva.test/%C3%BC"),
        ("https://a_b.photos.test/%zz|[x]", "https://a_b.photos.test/%zz|[x]"),
        ("https://1.2.3.4.photos.test/", "https://1.2.3.4.photos.test/"),
    ],
)
def test_the_url_that_is_called_is_the_one_that_was_checked(url, sent):
    assert Guard(FetchSettings()).parse(url).url == sent


def test_settings_allow_http_and_other_ports():
    guard = Guard(FetchSettings())
    for url in ("http://photos.test/", "https://photos.test:80/", "https://photos.test:8443/"):
        with pytest.raises(Refused):
            guard.parse(url)
    guard = Guard(FetchSettings(allow_http=True, allowed_ports=(8443,)))
    assert guard.parse("http://photos.test/").port == 80
    assert guard.parse("http://photos.test:8443/").authority == "photos.test:8443"
    with pytest.raises(Refused):
        guard.parse("https://photos.test:0/")


def test_long_urls_are_refused():
    guard = Guard(FetchSettings(max_url_characters=100))
    assert guard.parse("https://photos.test/" + "x" * 80)
    with pytest.raises(Refused, match="long"):
        guard.parse("https://photos.test/" + "x" * 81)


PRIVATE_TEXT = """
0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 168.63.129.16
169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.8 192.0.0.170 192.0.2.1 192.31.196.1
192.52.193.1 192.88.99.1 192.168.0.1 192.175.48.1 198.18.0.1 198.19.255.255 198.51.100.7
203.0.113.9 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255 :: ::1 ::7f00:1 ::ffff:127.0.0.1
::ffff:8.8.8.8 ::ffff:a9fe:a9fe 64:ff9b::7f00:1 64:ff9b::808:808 64:ff9b:1::a00:1 100::1 2001::1
2001:0:4136:e378:8000:63bf:80ff:fffe 2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1::
2002:808:808::1 2620:4f:8000::1 3fff::1 4000::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fe80::1%eth0
fec0::1 ff02::1 ff0e::1
"""
PUBLIC_TEXT = (
    "1.1.1.1 8.8.8.8 93.184.216.34 172.32.0.1 192.0.1.1 223.255.255.255 2606:4700::1111 2a00::1"
)


@pytest.mark.parametrize("text", PRIVATE_TEXT.split())
def test_addresses_that_are_not_public(text):
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", PUBLIC_TEXT.split())
def test_addresses_that_are_public(text):
    assert is_public(ipaddress.ip_address(text))


@given(st.ip_addresses())
def test_no_address_is_public_that_python_calls_private(address):
    known = address.is_private or address.is_multicast or address.is_reserved
    assert not (is_public(address) and (known or address.is_link_local or address.is_unspecified))


def addresses(*texts):
    return [ipaddress.ip_address(text) for text in texts]


def test_one_private_address_among_many_is_enough():
    guard = Guard(FetchSettings())
    public = [f"8.8.8.{n}" for n in range(9)]
    guard.permit(addresses(*public))
    for wrong in ([], [*public, "10.0.0.1"], ["::1", *public], [f"8.8.8.{n}" for n in range(65)]):
        with pytest.raises(Refused):
            guard.permit(addresses(*wrong))


def test_own_addresses_are_refused_even_if_public():
    own = addresses("8.8.4.4")
    with pytest.raises(Refused):
        Guard(FetchSettings()).permit(addresses("8.8.8.8", "8.8.4.4"), own)
    Guard(FetchSettings()).permit(addresses("8.8.8.8"), own)


def test_settings_allow_private_networks_and_deny_public_ones():
    settings = FetchSettings(
        allowed_networks=["10.1.0.0/16", "fd00:1::/32"],
        denied_networks=["8.8.8.0/24", "10.1.9.0/24"],
    )
    guard = Guard(settings)
    guard.permit(addresses("10.1.2.3", "fd00:1::5"))
    for text in ("10.2.0.1", "8.8.8.8", "10.1.9.1", "fd00:2::1", "::ffff:10.1.2.3"):
        with pytest.raises(Refused):
            guard.permit(addresses(text))
    assert guard.parse("https://10.1.2.3/").host == "10.1.2.3"
    assert guard.parse("https://[fd00:1::5]:443/").url == "https://[fd00:1::5]/"
    for url in (
        "https://10.2.0.1/",
        "https://167838211/",
        "https://10.1.515/",
        "https://0xa.1.2.3/",
    ):
        with pytest.raises(Refused):
            guard.parse(url)
