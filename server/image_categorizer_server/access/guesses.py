"""Limits how many unknown keys a server process looks up for one address."""

from ipaddress import IPv6Address, ip_address, ip_network

from cachetools import TTLCache

from image_categorizer_server.errors import CredentialsInvalid

WINDOW_S = 60.0
MAX_ADDRESSES = 10_000
# Whoever has one IPv6 address usually has 2^64.
IPV6_PREFIX = 64


class Guesses:
    """Counts unknown keys by the address that sent them.

    Nobody guesses a key of 256 bits: this limit protects the database.  It does not concern keys
    that are known, from whichever address, so nobody can lock out their owner.  It is the limit of
    one process; limits before authentication that processes share are enforced elsewhere.
    """

    def __init__(self, max_per_minute: int) -> None:
        """Starts to count.

        Args:
            max_per_minute: for one IPv4 address, or one IPv6 network of 64 bits.
        """
        self._max_per_minute = max_per_minute
        # A count in a list grows without a new time: the window begins with the first guess.
        self._counts: TTLCache[str, list[int]] = TTLCache(MAX_ADDRESSES, ttl=WINDOW_S)

    def __len__(self) -> int:
        return len(self._counts)

    def check(self, address: str) -> None:
        """Passes an address that has not used up its minute.

        Raises:
            CredentialsInvalid: it has.
        """
        if address and self._counts.get(_network_of(address), (0,))[0] >= self._max_per_minute:
            raise CredentialsInvalid(
                "the API key is not valid, or it is new and too many invalid keys came from this "
                "address: try again in a minute"
            )

    def add(self, address: str) -> None:
        """Counts an unknown key.  Callers on this machine (an empty address) are not limited."""
        if address:
            self._counts.setdefault(_network_of(address), [0])[0] += 1


def _network_of(address: str) -> str:
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address):
        return str(ip_network((parsed, IPV6_PREFIX), strict=False))
    return address
