"""Decides which URLs and addresses may be called on behalf of users. Makes no network calls.

A URL from a user could reach hosts behind our firewall (server-side request forgery).  So every
address that is not known to be public is refused, as in Stripe's Smokescreen.  The check applies to
the address that will be connected to, not to the name.  The lists are IANA's special-purpose
registries (RFC 6890); `ipaddress.is_global` alone accepts a third of them.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urljoin

from image_categorizer_server.settings.fetch import FetchSettings, Network

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

URL = re.compile(r"(https?)://([^/?#]+)([^#]*)(?:#.*)?", re.IGNORECASE | re.ASCII)
AUTHORITY = re.compile(
    r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?", re.IGNORECASE | re.ASCII
)
LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# Blanks, control characters and backslashes: parsers disagree about them.
FORBIDDEN = re.compile(r"[\x00-\x20\x7f-\xa0\\]")
PORTS = {"https": 443, "http": 80}
LOCALHOST = "localhost"
MAX_HOST_CHARACTERS = 253
MAX_ADDRESSES = 64

PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")
SPECIAL: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; Alibaba's metadata
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's platform, in a public network
        "169.254.0.0/16",  # link-local; the metadata of AWS, Google, Azure
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # IETF protocols
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved; broadcast
        "2001::/23",  # IETF protocols: Teredo, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which contains an IPv4 address
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)


class Refused(Exception):
    """The URL or address must not be called. The text is for the log, never for the caller."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that may be called, parsed."""

    scheme: str
    host: str
    """Lower case, without brackets or a trailing dot."""
    port: int
    path: str
    """Path and query, ASCII only."""

    @property
    def authority(self) -> str:
        """The value of the `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL without the parts that are not sent, such as the fragment."""
        return f"{self.scheme}://{self.authority}{self.path}"


class Guard:
    """Applies the rules of the settings."""

    def __init__(self, settings: FetchSettings) -> None:
        self._settings = settings
        self._schemes = {"https", "http"} if settings.allow_http else {"https"}
        self._ports = {PORTS[scheme] for scheme in self._schemes} | set(settings.allowed_ports)

    def parse(self, url: str) -> Target:
        """Parses a URL and checks everything but the addresses of its name.

        Raises:
            Refused: its scheme, port, spelling or literal address is not allowed.
        """
        if len(url) > self._settings.max_url_characters:
            raise Refused("the URL is too long")
        match = URL.fullmatch(url)
        if not match or FORBIDDEN.search(url):
            raise Refused("the URL is malformed")
        scheme = match[1].lower()
        authority = AUTHORITY.fullmatch(match[2])  # no user info
        if scheme not in self._schemes or not authority:
            raise Refused("the scheme or the host is not allowed")
        port = int(authority[2]) if authority[2] else PORTS[scheme]
        if port not in self._ports:
            raise Refused("the port is not allowed")
        path = quote(match[3], safe="/?%:@!$&'()*+,;=-._~[]|")
        return Target(
            scheme, self._host(authority[1]), port, path if path.startswith("/") else f"/{path}"
        )

    def redirect(self, source: Target, location: str) -> Target:
        """Returns the target of a redirect.

        Args:
            source: what was called.
            location: the `Location` header of the answer.

        Raises:
            Refused: see `parse`; or the redirect leads from https to http.
        """
        try:
            target = self.parse(urljoin(source.url, location))
        except ValueError:
            raise Refused("the redirect is malformed") from None
        if source.scheme == "https" and target.scheme != "https":
            raise Refused("the redirect leads to http")
        return target

    def _host(self, text: str) -> str:
        """Returns a name, or a literal address that the settings allow."""
        host = text.lower().strip("[]").removesuffix(".")
        literal = literal_address(text, host)
        if literal:
            if not self._is_allowed(literal):
                raise Refused("literal addresses are not allowed")
            return str(literal)
        if len(host) > MAX_HOST_CHARACTERS or not all(map(LABEL.fullmatch, host.split("."))):
            raise Refused("the host is not a valid name")
        return host

    def permit(self, addresses: Sequence[Address], own: Iterable[Address] = ()) -> None:
        """Passes the addresses of a name if all of them may be called.

        Args:
            addresses: all addresses of the name.
            own: the addresses of this machine.

        Raises:
            Refused: there is no address, there are too many, or one of them is not public.
        """
        if not 0 < len(addresses) <= MAX_ADDRESSES:
            raise Refused("the name has no address, or too many")
        own = set(own)
        for address in addresses:
            if self._is_denied(address):
                raise Refused("an address is denied")
            if not self._is_allowed(address) and (address in own or not is_public(address)):
                raise Refused("an address is not public")

    def _is_allowed(self, address: Address) -> bool:
        return any(address in network for network in self._settings.allowed_networks)

    def _is_denied(self, address: Address) -> bool:
        return any(address in network for network in self._settings.denied_networks)


def literal_address(text: str, host: str) -> Address | None:
    """Returns the address that a URL spells out, or None for a name.

    Args:
        text: the host as in the URL.
        host: the same in lower case, without brackets and trailing dot.

    Raises:
        Refused: a number other than a dotted quad, such as `0x7f.1`: some resolvers accept it.
    """
    last = host.rpartition(".")[2]
    # WHATWG URL: a host whose last label is a number is an IPv4 address, or invalid.
    is_number = last.isdigit() or re.fullmatch(r"0x[0-9a-f]*", last) is not None
    if not is_number and not text.startswith("["):
        return None
    try:
        if text.startswith("["):
            return ipaddress.IPv6Address(host)
        return ipaddress.IPv4Address(text)
    except ValueError:
        raise Refused("the host is a malformed address") from None


def is_public(address: Address) -> bool:
    """Tells whether an address belongs to the public internet."""
    if isinstance(address, ipaddress.IPv6Address) and address not in PUBLIC_V6:
        return False  # also excludes mapped and NAT64 addresses, which contain an IPv4 address
    return address.is_global and not any(address in network for network in SPECIAL)
