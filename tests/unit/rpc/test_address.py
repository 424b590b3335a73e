"""The address of the client behind the gateway."""

from ipaddress import ip_network

import pytest
from image_categorizer_server.rpc.address import HEADER, client_address, network_of

GATEWAYS = (ip_network("127.0.0.0/8"), ip_network("10.0.0.0/8"))


@pytest.mark.parametrize(
    ("peer", "reported", "address"),
    [
        ("ipv4:127.0.0.1:4000", "192.0.2.1", "192.0.2.1"),
        ("ipv4:10.1.2.3:4000", "2001:DB8:0::1", "2001:db8::1"),
        ("ipv4:10.1.2.3:4000", "::ffff:192.0.2.1", "192.0.2.1"),
        ("unix:", "192.0.2.1", "192.0.2.1"),
        ("unix:", "", ""),
        ("ipv4:127.0.0.1:4000", "", "127.0.0.1"),
        ("ipv4:127.0.0.1:4000", "192.0.2.1, 192.0.2.2", "127.0.0.1"),
        ("ipv4:192.0.2.9:4000", "192.0.2.1", "192.0.2.9"),
        ("ipv6:[2001:db8::9]:4000", "192.0.2.1", "2001:db8::9"),
        ("ipv6:%5B2001:db8::9%5D:4000", "", "2001:db8::9"),
        ("ipv6:[::ffff:10.0.0.1]:4000", "192.0.2.1", "192.0.2.1"),
    ],
)
def test_only_gateways_report_an_address(peer, reported, address):
    assert client_address(peer, {HEADER: reported}, GATEWAYS) == address


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.77", "192.0.2.0"),
        ("2001:db8:1:2:3::4", "2001:db8:1::"),
        ("::1", "::"),
        ("", ""),
    ],
)
def test_the_network_of_an_address_has_24_or_48_bits(address, network):
    assert network_of(address) == network
