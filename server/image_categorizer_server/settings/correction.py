"""Settings of corrections."""

from pydantic import Field

from image_categorizer_server.settings.group import Group

MEBIBYTE = 2**20


class CorrectionSettings(Group):
    """Corrections: what people say about stored results changes the next answers."""

    min_similarity: float = Field(
        0.85,
        gt=0,
        le=1,
        description="How similar an image must be to one that feedback is about, for that feedback "
        "to change its answer: the cosine of the angle between their embeddings.",
    )
    max_examples: int = Field(
        2000,
        ge=1,
        le=20_000,
        description="How many images that feedback is about count, for a tenant and model: those "
        "with the newest feedback. Each is compared with each image that the tenant classifies.",
    )
    memory_mb: int = Field(
        256,
        ge=1,
        le=1_048_576,
        description="Memory of each server process for the embeddings of images that feedback is "
        "about, in MB of 2^20 bytes. 200 of the packaged model need one. Those of the tenants that "
        "called last are kept, others are read again.",
    )

    @property
    def memory_bytes(self) -> int:
        """Memory for the embeddings, in bytes."""
        return self.memory_mb * MEBIBYTE
