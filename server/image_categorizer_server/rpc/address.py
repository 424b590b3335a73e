"""The IP address of the client, which the gateway reports."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import unquote

HEADER = "x-client-address"
IPV4_BITS, IPV6_BITS = 24, 48
Network = IPv4Network | IPv6Network


def client_address(peer: str, headers: Mapping[str, str], gateways: Iterable[Network]) -> str:
    """Returns the IP address of the client; empty if it calls over a unix socket.

    Args:
        peer: the other end of the connection, as gRPC writes it: `ipv4:192.0.2.1:443`,
            `ipv6:[2001:db8::1]:443` or `unix:`.
        headers: of the call.  The gateway states the address in one.
        gateways: networks whose hosts are believed.  Over a unix socket everybody is.
    """
    own = _address_of(peer)
    if not own or any(ip_address(own) in network for network in gateways):
        return _canonical(headers.get(HEADER, "")) or own
    return own


@lru_cache(maxsize=4096)
def network_of(address: str) -> str:
    """Returns the first address of a client's network, /24 or /48; empty for the empty address.

    Args:
        address: as `client_address` returns it.
    """
    if not address:
        return ""
    bits = IPV4_BITS if ip_address(address).version == 4 else IPV6_BITS
    return str(ip_network(f"{address}/{bits}", strict=False).network_address)


@lru_cache(maxsize=4096)
def _address_of(peer: str) -> str:
    kind, _, rest = unquote(peer).partition(":")
    if kind not in {"ipv4", "ipv6"}:
        return ""
    return _canonical(rest.rpartition(":")[0].strip("[]"))


@lru_cache(maxsize=4096)
def _canonical(text: str) -> str:
    """Returns an address in its one spelling; empty for anything else."""
    try:
        address = ip_address(text)
    except ValueError:
        return ""
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return str(address)
