"""The groups of settings that batches have; as `setting_groups.py`, which is full."""

from pydantic import Field

from image_categorizer_server.settings.group import Group


class BatchSettings(Group):
    """Batches: what one may hold."""

    max_items: int = Field(
        1_000_000, ge=1, le=10_000_000, description="Most images of one batch, failed ones too."
    )
    max_bytes: int = Field(
        2**40, ge=1, description="Most bytes that the images of one batch have together."
    )
    max_zip_bytes: int = Field(
        4 * 2**30, ge=1, description="Most bytes of one uploaded zip file; it is laid on disk."
    )
    max_zip_items: int = Field(
        100_000,
        ge=1,
        le=10_000_000,
        description="Most files in one uploaded zip file; each takes 1 KB of memory meanwhile.",
    )
    max_zip_ratio: float = Field(
        100.0, ge=1, description="Most that a large zip file may grow when unpacked, as a factor."
    )
    max_concurrent_puts: int = Field(
        16,
        ge=1,
        le=256,
        description="Images of one upload that are being stored at a time; together they have "
        "no more bytes than one image may.",
    )
    chunk_items: int = Field(
        32, ge=1, le=10_000, description="Images that a worker takes at once, and may do again."
    )
    max_failures_shown: int = Field(
        20, ge=0, le=20, description="Maximum number of failures that a batch carries by itself."
    )
    watch_interval_s: float = Field(
        1.0, gt=0, le=60, description="How often a watched batch is looked at."
    )
    request_id_s: float = Field(
        86_400.0, ge=86_400, le=31_536_000, description="How long a request id is remembered."
    )
    upload_lease_s: float = Field(
        120.0,
        gt=0,
        le=86_400,
        description="How long an upload whose server is silent counts as under way.",
    )
