"""Values about API keys."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TypedDict

from image_categorizer_server.domain.access import Role, Scope

Network = IPv4Network | IPv6Network
LOCAL_ADDRESSES = (ip_address("127.0.0.1"), ip_address("::1"))
"""What a caller over a unix socket counts as."""


class KeyState(Enum):
    """Whether a key is accepted; see `ApiKey.State` in key.proto."""

    ACTIVE = "ACTIVE"
    EXPIRED = "EXPIRED"
    REVOKED = "REVOKED"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key, without its secret."""

    key_id: str
    tenant_id: str
    name: str
    role: Role
    prefix: str
    """The first characters of the secret, to recognize the key by."""
    create_time: datetime
    created_by: str = ""
    """The actor that created it; empty for the command line."""
    scopes: frozenset[Scope] = frozenset()
    """What the key is limited to.  Empty: everything that the role permits."""
    allowed_addresses: tuple[Network, ...] = ()
    """From where the key is accepted.  Empty: from everywhere."""
    expire_time: datetime | None = None
    revoke_time: datetime | None = None
    last_use_time: datetime | None = None
    previous_secret_expire_time: datetime | None = None

    def state(self, now: datetime) -> KeyState:
        """Returns whether the key is accepted."""
        if self.revoke_time is not None:
            return KeyState.REVOKED
        if self.expire_time is not None and self.expire_time <= now:
            return KeyState.EXPIRED
        return KeyState.ACTIVE

    def allows(self, address: str) -> bool:
        """Returns whether the key is accepted from an IP address; empty for a unix socket."""
        if not self.allowed_addresses:
            return True
        callers = (ip_address(address),) if address else LOCAL_ADDRESSES
        return any(caller in network for network in self.allowed_addresses for caller in callers)


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A key, found by one of its secrets."""

    key: ApiKey
    is_previous: bool = False
    """Whether the secret is the one before the last rotation."""

    def is_valid(self, now: datetime) -> bool:
        """Returns whether the secret is accepted."""
        end = self.key.previous_secret_expire_time
        if self.is_previous and (end is None or end <= now):
            return False
        return self.key.state(now) is KeyState.ACTIVE


@dataclass(frozen=True, slots=True)
class KeySpec:
    """What a new key shall be."""

    name: str
    role: Role
    scopes: frozenset[Scope] = frozenset()
    allowed_addresses: tuple[Network, ...] = ()
    expire_time: datetime | None = None


class KeyChanges(TypedDict, total=False):
    """New values of a key; what is absent stays."""

    name: str
    role: Role
    scopes: frozenset[Scope]
    allowed_addresses: tuple[Network, ...]
    expire_time: datetime | None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key with a new secret, which is not stored."""

    secret: str = field(repr=False)
    key: ApiKey


def network_of(text: str) -> Network:
    """Returns a network in CIDR notation, or of a single address.

    Raises:
        ValueError: the text is neither, or the address has bits beyond its prefix.
    """
    network = ip_network(text.strip())
    mapped = network.network_address.ipv4_mapped if network.version == 6 else None
    # Addresses of callers are in this spelling, too.
    return ip_network((mapped, max(network.prefixlen - 96, 0))) if mapped else network
