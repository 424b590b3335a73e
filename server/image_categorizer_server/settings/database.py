"""Settings of PostgreSQL and Redis, and of what is cached there."""

from pydantic import Field

from image_categorizer_server.settings.group import Group


class DatabaseSettings(Group):
    """PostgreSQL."""

    pool_size: int = Field(8, ge=1, le=100, description="Connections of each process.")
    timeout_s: float = Field(
        5.0, gt=0, le=60, description="Most time for one statement or connection attempt."
    )


class RedisSettings(Group):
    """Redis."""

    timeout_s: float = Field(
        2.0, gt=0, le=60, description="Most time for one command or connection attempt."
    )
    pool_size: int = Field(16, ge=1, le=1000, description="Most connections of each process.")


class CacheSettings(Group):
    """Remembered answers, in Redis."""

    ttl_s: float = Field(
        3600.0, ge=0, le=2_592_000, description="How long an answer is remembered; 0: never."
    )
    timeout_s: float = Field(
        0.03,
        gt=0,
        le=10,
        description="How long a request waits for Redis before it goes on without.",
    )
    max_entries: int = Field(
        50_000, ge=1, le=100_000_000, description="Most answers remembered for one tenant."
    )
    max_value_bytes: int = Field(
        16_384, ge=256, le=1_048_576, description="Largest answer that is remembered."
    )
