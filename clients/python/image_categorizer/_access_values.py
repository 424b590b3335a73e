"""The values about access: credentials, certificates, tenants, usage, audit; see `_values`."""

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal, TypedDict

KeyRole = Literal["viewer", "classifier", "operator", "admin", "worker", "platform"]
"""The roles of API keys, as an argument; see `ApiKey.role`."""


KeyState = Literal["ACTIVE", "EXPIRED", "REVOKED"]
"""The states of an API key, as an argument; see `ApiKey.state`."""


UsageGroup = Literal["day", "key", "model"]
"""By what usage is summed up."""


TokenProvider = Callable[[], str]
"""Returns an access token that is in force; called before every call to the server."""


AsyncTokenProvider = Callable[[], str] | Callable[[], Awaitable[str]]
"""A `TokenProvider`, or a coroutine function that does the same."""


class AuditFilter(TypedDict, total=False):
    """Which events of the audit to read, as keyword arguments."""

    start_time: datetime | None
    """The earliest time. Default: the beginning."""
    end_time: datetime | None
    """The end, exclusive. Default: none."""
    actor_id: str
    """The actor. Default: all."""
    action: str
    """An action such as `batch.create`, or the beginning of several: `batch.`. Default: all."""
    resource: str
    """What it happened to, such as the id of a batch. Default: all."""
    outcome: str | None
    """`OK` or `DENIED`. Default: both."""
    address: str
    """The IP address of the client. Default: all."""
    platform: bool
    """Whether to read the chain of the platform; needs its role. Default: the tenant's own."""


class TenantLimits(TypedDict, total=False):
    """Limits of one tenant: a missing one is that of the server's settings, 0 is none."""

    requests_per_s: float
    """All API keys together."""
    request_burst: int
    """Requests at once, after a pause."""
    key_requests_per_s: float
    """Of each API key."""
    key_request_burst: int
    images_per_day: int
    """From midnight to midnight, UTC."""
    concurrent_batches: int
    """Batches that have not ended."""
    stored_bytes: int
    """Bytes of the images of all batches, and of the stored images."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """An owner of keys, batches, webhooks and images."""

    tenant_id: str
    display_name: str
    """The name for people; may be empty."""
    state: str
    """ACTIVE, SUSPENDED or DELETING."""
    create_time: datetime
    delete_time: datetime | None
    """None unless DELETING."""
    limits: TenantLimits
    """The limits that it has instead of those of the server's settings."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key with which programs call the API."""

    key_id: str
    name: str
    role: str
    """`viewer`, `classifier`, `operator`, `admin`, `worker` or `platform`."""
    scopes: tuple[str, ...]
    """What the key is limited to, such as `batches:read`; empty: all that the role permits."""
    state: str
    """ACTIVE, EXPIRED or REVOKED."""
    prefix: str
    """The first characters of the secret, to recognize the key by."""
    allowed_addresses: tuple[str, ...]
    """The networks from which the key is accepted; empty: all."""
    create_time: datetime
    expire_time: datetime | None
    """None: the key does not expire."""
    revoke_time: datetime | None
    last_use_time: datetime | None
    """When the key was last accepted, to about a minute; None: never."""
    previous_secret_expire_time: datetime | None
    """Until when the secret before the last rotation is accepted, too; None: it is not."""
    created_by: str
    """The `key_id` of another key, or the name of a user; empty: the command line."""
    secret: str = field(repr=False)
    """Set only by `create` and `rotate`; otherwise empty."""


class KeyChanges(TypedDict, total=False):
    """What `keys.update` changes; what is not given stays."""

    name: str
    role: KeyRole
    """At most the role of the caller's key."""
    scopes: Sequence[str]
    """Empty: the key is not limited to scopes any more."""
    allowed_addresses: Sequence[str]
    """Empty: the key is accepted from everywhere."""
    expire_time: datetime | None
    """With a time zone. None: the key does not expire any more."""


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What one group has used; of `day`, `key_id` and `model`, one names the group."""

    day: date | None
    """In UTC; None unless usage is summed up by day."""
    key_id: str
    model: str
    images: int
    """All images that were answered, with a classification or with an error about the image."""
    cached_images: int
    failed_images: int
    bytes: int
    """The size of the encoded images."""
    model_ms: float
    """Milliseconds of the model; the images of a micro-batch share its time equally."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the tenant has used."""

    start_date: date
    end_date: date
    """The last day."""
    rows: tuple[UsageRow, ...]
    total: UsageRow


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: what the server makes of the client's credentials."""

    actor_id: str
    """The id of the API key; of a token, the name of its issuer, a colon, and the claim `sub`."""
    tenant_id: str
    role: str
    scopes: tuple[str, ...]
    """What the credentials are limited to. Empty: everything that the role permits."""


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """Something that somebody did, or that was refused."""

    tenant_id: str
    """`_platform` for events that belong to no tenant."""
    seq: int
    """The number in the tenant's chain: from 1, without gaps."""
    time: datetime
    actor_id: str
    """An API key, a user, or `cli:` and a user of the operating system; empty for the system."""
    action: str
    """What happened, such as `batch.create`."""
    resource: str
    """What it happened to, such as the id of a batch."""
    outcome: str
    """OK or DENIED."""
    address: str
    """The IP address of the client; empty if there is none."""
    request_id: str
    detail: dict[str, object]
    """Further facts."""
    prev_hash: str
    hash: str
    """The SHA-256 over all other fields; docs/audit.md says of which bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Which server a client trusts, and how it identifies itself, by paths of PEM files."""

    root_certificates: str | os.PathLike[str] | None = None
    """Certificates of the authorities that are trusted; None for those that gRPC comes with."""
    certificate: str | os.PathLike[str] | None = None
    """The client's own certificate, for servers that ask for one."""
    private_key: str | os.PathLike[str] | None = None
    """The key of `certificate`."""
    server_name: str = ""
    """A name in the server's certificate; empty for the host of the address."""

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key belong together: give both or neither")
