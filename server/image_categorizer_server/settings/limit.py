"""Settings of rate limits and quotas."""

from pydantic import Field

from image_categorizer_server.settings.group import Group

MAX_LIMIT = 2**53
"""The largest limit: Redis computes with floating-point numbers."""


class QuotaSettings(Group):
    """Rate limits and quotas, counted in Redis. 0 is no limit.

    The limits of a tenant, unless it has limits of its own, and of a client's address. The default
    is none: on one machine with one tenant, the queues bound the load.
    """

    requests_per_s: float = Field(
        0.0,
        ge=0,
        le=1e6,
        description="Requests of a tenant per second. An image of a stream is one.",
    )
    request_burst: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="Requests of a tenant at once. 0: as many as a second allows.",
    )
    key_requests_per_s: float = Field(
        0.0, ge=0, le=1e6, description="Requests of one API key, or one user, per second."
    )
    key_request_burst: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="Requests of one API key at once. 0: as many as a second allows.",
    )
    images_per_day: int = Field(
        0,
        ge=0,
        le=MAX_LIMIT,
        description="Images of a tenant from midnight to midnight, UTC; every image of a batch or "
        "a stream counts.",
    )
    concurrent_batches: int = Field(
        0, ge=0, le=1_000_000, description="Batches of a tenant that have not ended."
    )
    stored_bytes: int = Field(
        0,
        ge=0,
        le=MAX_LIMIT,
        description="Size of the images of all batches of a tenant, and of its stored images, in "
        "bytes.",
    )
    address_requests_per_s: float = Field(
        0.0,
        ge=0,
        le=1e6,
        description="Requests of one client address per second. Not behind a proxy that hides the "
        "addresses: all clients would share one.",
    )
    address_request_burst: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="Requests of one client address at once. 0: as many as a second allows.",
    )
    failure_cost: int = Field(
        10,
        ge=1,
        le=1000,
        description="Requests that a call with bad credentials counts as, for its address.",
    )
    expected_servers: int = Field(
        3,
        ge=1,
        le=10_000,
        description="While Redis does not answer, each server process allows this fraction.",
    )
    timeout_s: float = Field(
        0.25,
        gt=0,
        le=10,
        description="How long a request waits for Redis before its process counts by itself.",
    )
    tenant_cache_s: float = Field(
        5.0,
        ge=0,
        le=300,
        description="How long the limits of a tenant are cached, in seconds.",
    )
