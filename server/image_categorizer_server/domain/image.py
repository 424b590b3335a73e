"""Values about stored images."""

import unicodedata
from dataclasses import dataclass
from datetime import datetime

from image_categorizer_server.domain.classification import ModelRef, Prediction


@dataclass(frozen=True, slots=True)
class Picture:
    """What is stored of an image that was sent."""

    content: bytes
    format: str
    """The name that Pillow has for it, such as `JPEG`."""
    width_px: int
    """Of the upright image."""
    height_px: int


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image to store, as it was sent."""

    content: bytes
    filename: str = ""
    tags: tuple[str, ...] = ()
    subject_id: str = ""


@dataclass(frozen=True, slots=True)
class ImageResult:
    """What a model found in a stored image."""

    result_id: str
    image_id: str
    predictions: tuple[Prediction, ...]
    model: ModelRef
    create_time: datetime


@dataclass(frozen=True, slots=True)
class Image:
    """A stored image, without its content."""

    tenant_id: str
    image_id: str
    subject_key: str
    """Keyed hash of the subject; empty for none."""
    subject_id: str
    sha256: str
    """Of the bytes that were sent."""
    object_key: str
    size_bytes: int
    format: str
    width_px: int
    height_px: int
    filename: str
    tags: tuple[str, ...]
    create_time: datetime
    result: ImageResult | None = None
    """The newest."""


def is_text(text: str, max_characters: int) -> bool:
    """Returns whether a text is no longer than allowed and has no control characters."""
    return len(text) <= max_characters and not any(
        unicodedata.category(character) in ("Cc", "Cs") for character in text
    )
