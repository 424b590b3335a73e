"""Settings of the search for similar images."""

from pydantic import Field

from image_categorizer_server.settings.group import Group

MEBIBYTE = 2**20


class EmbeddingSettings(Group):
    """Similar images."""

    index_mb: int = Field(
        1024,
        ge=1,
        le=1_048_576,
        description="Memory of each server process for the indexes of similar images, in MB of "
        "2^20 bytes. A million images need 400. The indexes that were used last are kept.",
    )
    candidates: int = Field(
        500,
        ge=100,
        le=10_000,
        description="How many images an index finds for one search, of which the most similar are "
        "returned. More of them miss fewer, and take longer.",
    )

    @property
    def index_bytes(self) -> int:
        """Memory for the indexes, in bytes."""
        return self.index_mb * MEBIBYTE
