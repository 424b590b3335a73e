"""Settings of PostgreSQL, of Redis and of the cache in it."""

from pydantic import Field

from image_categorizer_server.settings.group import Group


class DatabaseSettings(Group):
    """PostgreSQL."""

    pool_size: int = Field(
        8, ge=1, le=100, description="Maximum number of connections of each process."
    )
    timeout_s: float = Field(
        4.0, gt=0, le=60, description="Timeout of one statement or connection attempt, in seconds."
    )
    owner_url: str = Field(
        "",
        repr=False,
        description="URL of the role that owns the tables. Only `image-categorizer migrate` uses "
        "it, and creates the role of DATABASE_URL. Empty: DATABASE_URL.",
    )


class RedisSettings(Group):
    """Redis."""

    timeout_s: float = Field(
        2.0, gt=0, le=60, description="Timeout of one command or connection attempt, in seconds."
    )
    pool_size: int = Field(
        16, ge=1, le=1000, description="Maximum number of connections of each process."
    )


class CacheSettings(Group):
    """The cache of answers, in Redis."""

    ttl_s: float = Field(
        3600.0,
        ge=0,
        le=2_592_000,
        description="How long an answer is cached, in seconds. 0 turns the cache off.",
    )
    timeout_s: float = Field(
        0.03,
        gt=0,
        le=10,
        description="How long a request waits for Redis before it continues without the cache.",
    )
    max_entries: int = Field(
        50_000, ge=1, le=100_000_000, description="Maximum number of cached answers of one tenant."
    )
    max_value_bytes: int = Field(
        16_384, ge=256, le=1_048_576, description="Maximum size of a cached answer, in bytes."
    )
