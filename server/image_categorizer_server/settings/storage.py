"""Settings of the object store."""

from pathlib import Path

from pydantic import Field

from image_categorizer_server.settings.group import Group


class StorageSettings(Group):
    """Where images are kept: `CLOUD_PROVIDER` and `STORAGE_BUCKET` say which store."""

    path: Path = Field(
        Path("./images"),
        description="Folder of the images where CLOUD_PROVIDER is local; `up` has its own.",
    )
    endpoint: str = Field(
        "", description="Address of a store that speaks the provider's protocol; empty: its own."
    )
    allow_http: bool = Field(False, description="Whether that address may be http.")
    timeout_s: float = Field(
        10.0, gt=0, le=600, description="Most time for one call, tries and images included."
    )
    connect_timeout_s: float = Field(
        3.0, gt=0, le=60, description="Most time for one attempt to connect."
    )
    max_retries: int = Field(
        3, ge=0, le=10, description="How often a call is tried again that the store failed."
    )
    flush: bool = Field(
        True,
        description="Whether images on disk are there to stay before a batch is acknowledged; "
        "without it a power cut takes those of the last half minute.",
    )
    delete_batch: int = Field(
        100, ge=1, le=1000, description="Most images that one call to the store deletes."
    )
