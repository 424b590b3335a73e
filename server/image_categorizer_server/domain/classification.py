"""Values about the classification of one image."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # workers pass classifications on, and have no numpy
    import numpy as np
    from numpy.typing import NDArray

from image_categorizer_server.domain.picture import Picture

DEFAULT_TOP_K = 5
NO_CATEGORY = "UNKNOWN"
"""Name of the answer if no category, however broad, reaches the threshold."""


@dataclass(frozen=True, slots=True)
class Category:
    """A category of a model."""

    name: str
    category_id: str = ""
    ancestors: tuple[str, ...] = ()


class Box(NamedTuple):
    """A rectangle in pixels of the upright image; the right and bottom edges are exclusive."""

    x_min: int
    y_min: int
    x_max: int
    y_max: int


class Source(StrEnum):
    """Where a prediction comes from; see `Prediction.Source` in types.proto."""

    MODEL = "MODEL"
    CORRECTION = "CORRECTION"
    OWN_CATEGORY = "OWN_CATEGORY"

    @classmethod
    def known(cls, name: str) -> "Source":
        """Returns the source with this name; MODEL for one of a newer release."""
        return cls.__members__.get(name, cls.MODEL)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A stored image, and how similar it is."""

    image_id: str
    similarity: float
    """The cosine of the angle between the embeddings, in [-1, 1]."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """A category and its confidence in [0, 1]."""

    category: Category
    confidence: float
    bounding_boxes: tuple[Box, ...] = ()
    """One for each object, the strongest first; empty unless requested and known."""
    raw_confidence: float | None = None
    """Before the model's temperature, in [0, 1]; None unless requested."""
    source: Source = Source.MODEL

    @property
    def bounding_box(self) -> Box | None:
        """The strongest of the boxes."""
        return self.bounding_boxes[0] if self.bounding_boxes else None

    def public_fields(self) -> dict[str, object]:
        """Returns what exports and webhooks show: the fields of `Prediction` in types.proto."""
        fields: dict[str, object] = {
            "category": self.category.name,
            "confidence": self.confidence,
            "bounding_box": list(self.bounding_box or ()),
            "category_id": self.category.category_id,
            "ancestors": list(self.category.ancestors),
            "bounding_boxes": [box._asdict() for box in self.bounding_boxes],
        }
        if self.raw_confidence is not None:
            fields["raw_confidence"] = self.raw_confidence
        if self.source is not Source.MODEL:
            fields["source"] = self.source.value
        return fields


@dataclass(frozen=True, slots=True)
class ModelRef:
    """Identifies the exact network that answered."""

    name: str
    version: int
    digest: str


@dataclass(frozen=True, slots=True)
class Digests:
    """What, beside its files, decides what a model version answers: each `sha256:` and 64 digits.

    Empty where nothing is known.
    """

    preprocessing: str = ""
    """Of how an image becomes the input of the network."""
    calibration: str = ""
    """Of how its outputs become confidences."""
    taxonomy: str = ""
    """Of the names of its categories, and of what is above what."""


NO_DIGESTS = Digests()


class BatchCloseReason(Enum):
    """Why a micro-batch closed; see `Timing.BatchCloseReason` in types.proto."""

    IDLE = "IDLE"
    FULL = "FULL"
    DEADLINE = "DEADLINE"
    DELAY = "DELAY"


class Lane(StrEnum):
    """The priority of a request; see `ClassifyStreamConfig.Lane` in classify.proto."""

    INTERACTIVE = "INTERACTIVE"
    BATCH = "BATCH"


@dataclass(frozen=True, slots=True)
class Caller:
    """The tenant that an image is classified for, and the urgency."""

    tenant_id: str
    lane: Lane
    deadline_s: float
    """The time after which the answer is useless, on the clock of `time.monotonic`."""
    is_repeated: bool = False
    """Whether an earlier call with the image was cut off, so that the image may crash processes."""
    key_id: str = ""
    """The API key, or the user, to which the usage is attributed."""
    is_batch_item: bool = False
    """Whether a worker asks, which counts the image itself when it writes the outcome."""


class ImageWarning(StrEnum):
    """What is wrong with an image that is classified; see `ImageWarning` in types.proto."""

    TRUNCATED = "TRUNCATED"

    @classmethod
    def known(cls, names: Iterable[str]) -> tuple["ImageWarning", ...]:
        """Returns the warnings with these names, without those of a newer release."""
        return tuple(cls[name] for name in names if name in cls.__members__)


class CacheStatus(Enum):
    """Whether an answer comes from the cache; see `ClassifyResponse.Cache` in classify.proto."""

    OFF = "CACHE_UNSPECIFIED"
    HIT = "HIT"
    MISS = "MISS"


@dataclass(frozen=True, slots=True)
class Timing:
    """The times of one image in milliseconds, and its micro-batch."""

    decode_ms: float
    queue_ms: float
    inference_ms: float
    batch_size: int
    batch_close_reason: BatchCloseReason


@dataclass(frozen=True, slots=True)
class Classification:
    """The predictions for one image by one model version, by descending confidence.

    A correction precedes those of the model.
    """

    predictions: list[Prediction]
    model: ModelRef
    timing: Timing
    heat_map: bytes = b""
    """A PNG file; empty unless requested."""
    cache: CacheStatus = CacheStatus.OFF
    warnings: tuple[ImageWarning, ...] = ()
    image_id: str = ""
    """The image that was kept; empty unless requested."""
    result_id: str = ""
    digests: Digests = NO_DIGESTS
    options: "ClassifyOptions | None" = None
    """What was asked, with the model's defaults; None where that is not known."""
    embedding: "NDArray[np.float32] | None" = field(default=None, compare=False)
    """float32 (D,), of length 1: made along with an answer if asked for."""
    picture: Picture | None = field(default=None, compare=False)
    """What is stored of the image, if it was made along with the answer."""
    neighbours: tuple[Neighbour, ...] = ()
    """The images whose feedback corrected the answer, or the examples of the tenant's category, the
    most similar first."""


@dataclass(frozen=True, slots=True)
class ClassifyOptions:
    """How to classify an image; see `ClassifyOptions` in types.proto."""

    model: str = ""
    version: int | str | None = None
    """A number or an alias."""
    confidence_threshold: float = 0.0
    top_k: int = DEFAULT_TOP_K
    include_categories: tuple[str, ...] = ()
    exclude_categories: tuple[str, ...] = ()
    bounding_boxes: bool = False
    explain: bool = False
    no_cache: bool = False
    roll_up: bool | None = None
    """None for the model's default."""
    raw_confidence: bool = False
    store: bool = False
    subject_id: str = ""
    blur: tuple[str, ...] = ()
    """What of the image is stored blurred; see `domain.blur`."""
