"""Settings of batches."""

from pydantic import Field

from image_categorizer_server.settings.group import Group


class BatchSettings(Group):
    """Batches and their uploads."""

    max_items: int = Field(
        1_000_000,
        ge=1,
        le=10_000_000,
        description="Maximum number of images in one batch, including failed ones.",
    )
    max_bytes: int = Field(
        2**40, ge=1, description="Maximum total size of the images in one batch, in bytes."
    )
    max_zip_bytes: int = Field(
        4 * 2**30,
        ge=1,
        description="Maximum size of one uploaded zip file, in bytes. It is kept on disk.",
    )
    max_zip_items: int = Field(
        100_000,
        ge=1,
        le=10_000_000,
        description="Maximum number of files in one uploaded zip file.",
    )
    max_zip_ratio: float = Field(
        100.0,
        ge=1,
        description="Maximum ratio of the unpacked to the packed size of a large zip file.",
    )
    max_concurrent_writes: int = Field(
        16,
        ge=1,
        le=256,
        description="Maximum number of images of one upload that are being stored at a time. "
        "Their total size is at most the maximum size of one image.",
    )
    chunk_items: int = Field(
        32,
        ge=1,
        le=10_000,
        description="Images that a worker leases at once. A crash repeats at most that many.",
    )
    max_failures_shown: int = Field(
        20, ge=0, le=20, description="Maximum number of failures that a batch carries by itself."
    )
    watch_interval_s: float = Field(
        1.0, gt=0, le=60, description="Interval at which a watched batch is read, in seconds."
    )
    request_id_s: float = Field(
        86_400.0,
        ge=86_400,
        le=31_536_000,
        description="How long a request id is remembered, in seconds.",
    )
    upload_lease_s: float = Field(
        120.0,
        gt=0,
        le=86_400,
        description="How long an upload stays registered after its server died, in seconds.",
    )
