"""Settings of the image storage."""

from pathlib import Path

from pydantic import Field

from image_categorizer_server.settings.group import Group


class StorageSettings(Group):
    """The image storage. `CLOUD_PROVIDER` and `STORAGE_BUCKET` select it."""

    path: Path = Field(
        Path("./images"),
        description="Folder for images if CLOUD_PROVIDER is local. `up` uses its own.",
    )
    endpoint: str = Field(
        "",
        description="Address of a store that is compatible with the provider's. Empty for the "
        "provider's own.",
    )
    allow_http: bool = Field(False, description="Whether that address may use http.")
    timeout_s: float = Field(
        10.0, gt=0, le=600, description="Time limit for one call, including retries."
    )
    connect_timeout_s: float = Field(
        3.0, gt=0, le=60, description="Time limit for one attempt to connect."
    )
    max_retries: int = Field(
        3, ge=0, le=10, description="How often a failed call to the store is repeated."
    )
    flush: bool = Field(
        True,
        description="Whether images on disk are flushed before a batch is acknowledged. If not, a "
        "power failure loses the images of the last 30 seconds.",
    )
    delete_batch: int = Field(
        100, ge=1, le=1000, description="Maximum number of images that one call deletes."
    )
