"""What the client says about stored images."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypedDict

from image_categorizer import _html
from image_categorizer._values import ModelRef, Prediction

ContentFit = Literal["scale_down", "contain", "cover"]
ReviewState = Literal["UNREVIEWED", "REVIEWED", "RIGHT", "CORRECTED", "NOT_IN_LIST"]
ContentFormat = Literal["jpeg", "png", "webp", "avif"]


class UploadOptions(TypedDict, total=False):
    """How `client.images.upload` stores an image, as keyword arguments."""

    filename: str
    """Default: the name of the file, without folders."""
    tags: Iterable[str]
    """Words of your own, at most 64."""
    subject_id: str
    """Whose image it is."""
    keep_metadata: bool
    """Whether the bytes are stored as they are; for admins."""
    blur: Iterable[str]
    """What nobody may see in what is stored: `left,top,right,bottom` in pixels of the upright
    image, or `percent:` and the same in hundredths."""


class ImageFilters(TypedDict, total=False):
    """Which images `client.images.list` yields: those that pass all filters."""

    subject_id: str
    """Whose images."""
    category: str
    """Of the best prediction of the newest result, or above it."""
    min_confidence: float
    """The least confidence of that prediction, in [0, 1]."""
    max_confidence: float
    """Its greatest confidence, in [0, 1]."""
    model: str
    """The model of the newest result, in any version."""
    tags: Iterable[str]
    """All of these, at most 8."""
    filename: str
    """All words of this, at most 8, in any case: `beach 2024` finds `IMG_2024_Beach.jpg`."""
    start_time: datetime
    """Stored then or later; with a time zone."""
    end_time: datetime
    """Stored before; with a time zone."""
    review_state: ReviewState
    """What people say about them."""
    near_duplicate_of: str
    """An image: itself, and those that look like it."""
    max_distance_bits: int
    """By how many of 64 bits the perceptual hashes of these may differ, 0 to 10; default: 4."""


@dataclass(frozen=True, slots=True)
class ImageResult(_html.Pictured):
    """What a model found in a stored image."""

    result_id: str
    image_id: str
    predictions: tuple[Prediction, ...]
    """The most confident first."""
    model: ModelRef
    create_time: datetime

    @property
    def category(self) -> str | None:
        """The most probable category; None if no category reached the threshold."""
        return self.predictions[0].category if self.predictions else None

    @property
    def confidence(self) -> float | None:
        """The confidence of `category`, in [0, 1]; None if there is no category."""
        return self.predictions[0].confidence if self.predictions else None

    def _repr_html_(self) -> str:
        bars = ((one.category, one.confidence) for one in self.predictions)
        return _html.answer(self, self.image_id, bars)


@dataclass(frozen=True, slots=True)
class Colour:
    """A colour that stands for a part of a picture."""

    name: str
    """As CSS writes it: `#rrggbb`."""
    share: float
    """Of the pixels, in [0, 1]."""


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """What a picture looks like, in numbers."""

    perceptual_hash: str
    """64 bits, 16 hexadecimal digits; few bits differ between pictures that look alike."""
    dominant_colours: tuple[Colour, ...]
    """At most five, the largest first."""
    brightness: float
    """The mean of the grey values, in [0, 1]."""
    sharpness: float
    """At least 0; blurred pictures have small values."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """A stored image, without its content."""

    image_id: str
    sha256: str
    """Of the bytes that were sent: 64 hexadecimal digits. What is stored may differ."""
    size_bytes: int
    """Of what is stored."""
    format: str
    """Of what is stored, such as `JPEG`."""
    width_px: int
    """Of the upright image."""
    height_px: int
    filename: str
    tags: tuple[str, ...]
    subject_id: str
    """Whose image it is; empty if nothing was said."""
    create_time: datetime
    facts: PictureFacts | None = None
    """None if an earlier release has stored the image."""
    has_metadata: bool = False
    """Whether the bytes are stored as they were sent, with their metadata."""
    content_url: str = field(default="", compare=False)
    """Where clients without credentials read what is stored, for a while; empty in lists, and
    without a bucket."""
    result: ImageResult | None = None
    """The newest classification; None if there is none."""
