"""Settings of the workers."""

from pydantic import Field

from image_categorizer_server.settings.group import Group


class WorkerSettings(Group):
    """Workers, which carry the batches."""

    chunks: int = Field(
        4, ge=1, le=256, description="Chunks of a batch that one worker process does at a time."
    )
    max_images: int = Field(
        128, ge=1, le=10_000, description="Most images that one process has in memory."
    )
    max_image_bytes: int = Field(
        64 * 2**20, ge=1, description="Most bytes that they may have, but for the last."
    )
    lease_s: float = Field(
        30.0,
        ge=0.3,
        le=3600,
        description="How long a chunk stays with a process that gives no sign of life.",
    )
    poll_interval_s: float = Field(
        2.0, gt=0, le=600, description="How often an idle process looks for work that nobody rang."
    )
    sweep_interval_s: float = Field(
        10.0, gt=0, le=600, description="How often what dead processes left is looked for."
    )
    record_items: int = Field(
        32, ge=1, le=1000, description="Most outcomes that are written in one transaction."
    )
    record_interval_s: float = Field(
        0.5, ge=0, le=60, description="Longest that an outcome waits to be written with others."
    )
    max_attempts: int = Field(
        5, ge=1, le=100, description="How often an image is tried that fails for no known reason."
    )
    isolate_after_server_crashes: int = Field(
        1,
        ge=1,
        le=100,
        description="After so many deaths of the server an image that it had is sent alone.",
    )
    fail_after_server_crashes: int = Field(
        3,
        ge=1,
        le=100,
        description="After so many more, while the server had it alone, the image fails.",
    )
    patience_s: float = Field(
        20.0,
        gt=0,
        le=3600,
        description="How long a chunk is kept while the server, or a store, does not answer.",
    )
    grace_s: float = Field(
        10.0,
        ge=0,
        le=600,
        description="Time that chunks under way get when the process stops, before they go back.",
    )
    stream_idle_s: float = Field(
        5.0, gt=0, le=300, description="How long a stream to the server stays open unused."
    )
    alive_path: str = Field(
        "", description="File that a process touches every second while it works; empty: none."
    )
