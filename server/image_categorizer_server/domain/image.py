"""Values about stored images."""

import unicodedata
from dataclasses import dataclass
from datetime import datetime

from image_categorizer_server.domain.classification import (
    NO_DIGESTS,
    ClassifyOptions,
    Digests,
    ModelRef,
    Prediction,
)
from image_categorizer_server.domain.picture import PictureFacts


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image to store, as it was sent."""

    content: bytes
    filename: str = ""
    tags: tuple[str, ...] = ()
    subject_id: str = ""
    keep_metadata: bool = False
    """Whether the bytes are stored as they are."""
    blur: tuple[str, ...] = ()
    """What is blurred in what is stored; see `domain.blur`."""


@dataclass(frozen=True, slots=True)
class ImageResult:
    """What a model found in a stored image."""

    result_id: str
    image_id: str
    predictions: tuple[Prediction, ...]
    model: ModelRef
    create_time: datetime
    digests: Digests = NO_DIGESTS
    options: ClassifyOptions | None = None
    """What was asked, with the model's defaults; None if an earlier release stored it."""
    input_sha256: str = ""
    """Of the bytes that were sent; empty if an earlier release stored it."""
    server_version: str = ""
    receipt: str = ""
    """See `domain.receipt`; empty if there is none."""


@dataclass(frozen=True, slots=True)
class Image:
    """A stored image, without its content."""

    tenant_id: str
    image_id: str
    subject_key: str
    """Keyed hash of the subject; empty for none."""
    subject_id: str
    sha256: str
    """Of the bytes that were sent; of a blurred image, of those that are stored."""
    object_key: str
    size_bytes: int
    format: str
    width_px: int
    height_px: int
    filename: str
    tags: tuple[str, ...]
    create_time: datetime
    facts: PictureFacts | None = None
    """None for images that an earlier release has stored."""
    has_metadata: bool = False
    """Whether the bytes are stored as they were sent, with all that is not the picture."""
    result: ImageResult | None = None
    """The newest."""


@dataclass(frozen=True, slots=True)
class ImageFilter:
    """Which images a list has: those with all that is given."""

    subject_id: str = ""
    category: str = ""
    """Of the best prediction of the newest result, or above it."""
    confidences: tuple[float, float] | None = None
    """The least and the greatest confidence of that prediction."""
    model: str = ""
    """Of the newest result, in any version."""
    tags: tuple[str, ...] = ()
    filename: str = ""
    """Words of the name, in any case."""
    start_time: datetime | None = None
    """When the image was stored, at the earliest."""
    end_time: datetime | None = None
    """Before when it was."""
    review_state: str = ""
    """The name of a `ReviewState`; empty for any."""
    near: "NearHash | None" = None


@dataclass(frozen=True, slots=True)
class NearHash:
    """The images whose perceptual hash differs by few bits from another one."""

    perceptual_hash: str
    """16 hexadecimal digits."""
    max_distance_bits: int


@dataclass(frozen=True, slots=True)
class ImageChanges:
    """What changes of an image; None: nothing."""

    filename: str | None = None
    tags: tuple[str, ...] | None = None


def is_text(text: str, max_characters: int) -> bool:
    """Returns whether a text is no longer than allowed and has no control characters."""
    return len(text) <= max_characters and not any(
        unicodedata.category(character) in ("Cc", "Cs") for character in text
    )
