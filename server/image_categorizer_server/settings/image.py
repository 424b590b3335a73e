"""Settings of the content of stored images, and of addresses at which a CDN serves it."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.settings.group import Group


class ImageSettings(Group):
    """The content of stored images that `GetImageContent` makes."""

    max_side_px: int = Field(
        2048, ge=16, le=16_384, description="The longest side of what is made, in pixels."
    )
    max_content_bytes: int = Field(
        4_000_000,
        ge=10_000,
        le=100_000_000,
        description="The largest content that is sent. Clients of gRPC take 4 MiB by default.",
    )
    max_renditions: int = Field(
        32,
        ge=0,
        le=10_000,
        description="How many sizes, formats and qualities of an image are stored. Others are made "
        "at every call.",
    )
    concurrency: int = Field(
        2, ge=1, le=256, description="How many images a server process makes at the same time."
    )
    max_waiting: int = Field(
        100,
        ge=1,
        le=10_000,
        description="How many calls wait for that in a server process. Others are refused.",
    )
    cache_s: int = Field(
        86_400,
        ge=0,
        le=31_536_000,
        description="How long clients may keep content without asking again, in seconds. They may "
        "show a deleted image that long.",
    )


class CdnSettings(Group):
    """Addresses at which a CDN serves stored images. Each is signed and expires."""

    provider: Literal["", "cloudfront", "cloud_cdn", "azure_front_door", "presigned"] = Field(
        "presigned",
        description="How addresses are signed: by the store itself (presigned), or for a CDN in "
        "front of the bucket. Empty: images have no addresses.",
    )
    base_url: str = Field(
        "",
        pattern=r"^(https?://[^\s?#]+)?$",
        description="Address of the bucket's root at the CDN, such as https://img.example.com.",
    )
    key_id: str = Field(
        "", description="CloudFront: the ID of the public key. Cloud CDN: the name of the key."
    )
    key: str = Field(
        "",
        repr=False,
        description="The key. CloudFront: the private RSA key, as PEM. Cloud CDN: 16 bytes in "
        "URL-safe base64. Azure Front Door has none: it passes on the store's signature.",
    )
    key_file: str = Field("", description="File with that key, if it is not given itself.")
    expires_s: int = Field(
        3600, ge=1, le=604_800, description="How long an address is valid, in seconds."
    )

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.provider in ("", "presigned"):
            return self
        if not self.base_url:
            raise ValueError("base_url is required for a CDN")
        if self.provider != "azure_front_door" and not (
            self.key_id and (self.key or self.key_file)
        ):
            raise ValueError(f"key_id and key, or key_file, are required for {self.provider}")
        return self

    def read_key(self) -> bytes:
        """Returns the key; empty if there is none.

        Raises:
            OperatorError: the file cannot be read.
        """
        if self.key or not self.key_file:
            return self.key.encode()
        try:
            return Path(self.key_file).read_bytes()
        except OSError as error:
            raise OperatorError(
                f"CATEGORIZER_CDN__KEY_FILE: cannot read {self.key_file}: {error.strerror}."
            ) from None
