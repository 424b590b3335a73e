"""Settings of uploads of one image in parts."""

from pydantic import Field

from image_categorizer_server.settings.group import Group


class ImageUploadSettings(Group):
    """Uploads of one image in parts, which resume where they were interrupted."""

    lifetime_s: int = Field(
        86_400,
        ge=60,
        le=2_592_000,
        description="How long after its creation an upload may be completed, in seconds. Then its "
        "parts are removed.",
    )
    url_lifetime_s: int = Field(
        3600,
        ge=1,
        le=604_800,
        description="How long the address is valid to which a client puts a whole image, in "
        "seconds; never longer than half of LIFETIME_S.",
    )
    max_unfinished: int = Field(
        100,
        ge=1,
        le=100_000,
        description="How many unfinished uploads a tenant may have. Their parts take up to so many "
        "times MAX_IMAGE_SIZE of the storage.",
    )
