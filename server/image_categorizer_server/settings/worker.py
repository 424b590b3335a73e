"""Settings of the workers."""

from pydantic import Field

from image_categorizer_server.settings.group import Group


class WorkerSettings(Group):
    """Workers, which run the batches."""

    chunks: int = Field(
        4, ge=1, le=256, description="Chunks that one worker process runs at the same time."
    )
    max_images: int = Field(
        128, ge=1, le=10_000, description="Maximum number of images that one process has in memory."
    )
    max_image_bytes: int = Field(
        64 * 2**20,
        ge=1,
        description="Maximum size of these images together. The last one may exceed it.",
    )
    lease_s: float = Field(
        30.0,
        ge=0.3,
        le=3600,
        description="How long a chunk stays with a process that has stopped responding.",
    )
    poll_interval_s: float = Field(
        2.0,
        gt=0,
        le=600,
        description="How often an idle process looks for work without a notification.",
    )
    sweep_interval_s: float = Field(
        10.0,
        gt=0,
        le=600,
        description="How often a process cleans up after processes that died, and removes data "
        "of deleted batches.",
    )
    record_items: int = Field(
        32, ge=1, le=1000, description="Maximum number of outcomes written in one transaction."
    )
    record_interval_s: float = Field(
        0.5,
        ge=0,
        le=60,
        description="How long an outcome waits at most to be written together with others.",
    )
    max_attempts: int = Field(
        5,
        ge=1,
        le=100,
        description="How often an image is tried that fails for an unknown reason.",
    )
    isolate_after_server_crashes: int = Field(
        1,
        ge=1,
        le=100,
        description="After this many crashes of the server, the images that it had are sent alone.",
    )
    fail_after_server_crashes: int = Field(
        3,
        ge=1,
        le=100,
        description="After this many more crashes, while the server had it alone, an image fails.",
    )
    isolated_timeout_s: float = Field(
        300.0,
        ge=1,
        le=86_400,
        description="How long an isolated image may take, in seconds. Then its process is killed, "
        "which counts as a crash.",
    )
    answer_timeout_s: float = Field(
        600.0,
        ge=1,
        le=86_400,
        description="How long the server may take to answer an image, with all attempts. Then the "
        "stream is closed, and the image is sent over another one.",
    )
    patience_s: float = Field(
        20.0,
        gt=0,
        le=3600,
        description="How long a chunk is kept while the server or a store does not answer.",
    )
    grace_s: float = Field(
        10.0,
        ge=0,
        le=600,
        description="How long a process that stops works on its chunks before it gives them back.",
    )
    stream_idle_s: float = Field(
        5.0, gt=0, le=300, description="How long an idle stream to the server stays open."
    )
    alive_path: str = Field(
        "",
        description="File that a process touches every second while it works. Empty for none.",
    )
