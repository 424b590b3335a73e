"""Plain values about one image: how it is classified, and what it shows."""

from dataclasses import dataclass
from enum import Enum, StrEnum

DEFAULT_TOP_K = 5


@dataclass(frozen=True, slots=True)
class Category:
    """What an image can be assigned."""

    name: str
    category_id: str = ""
    ancestors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prediction:
    """A category and its confidence in [0, 1]."""

    category: Category
    confidence: float
    bounding_box: tuple[int, int, int, int] | None = None
    """Left, top, right, bottom in pixels of the upright image; right and bottom exclusive."""


@dataclass(frozen=True, slots=True)
class ModelRef:
    """Names the exact network that answered."""

    name: str
    version: int
    digest: str


class BatchCloseReason(Enum):
    """Why a micro-batch left for the model."""

    IDLE = "IDLE"
    FULL = "FULL"
    DEADLINE = "DEADLINE"
    DELAY = "DELAY"


class Lane(StrEnum):
    """Which requests go first; see `ClassifyStreamConfig.Lane` in classify.proto."""

    INTERACTIVE = "INTERACTIVE"
    BATCH = "BATCH"


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf an image is classified, and how urgent it is."""

    tenant_id: str
    lane: Lane
    deadline_s: float
    """When the answer is worth nothing any more, on the clock of `time.monotonic`."""


class CacheStatus(Enum):
    """Whether an answer was remembered; see `ClassifyResponse.Cache` in classify.proto."""

    OFF = "CACHE_UNSPECIFIED"
    HIT = "HIT"
    MISS = "MISS"


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time of one image went, in milliseconds."""

    decode_ms: float
    queue_ms: float
    inference_ms: float
    batch_size: int
    batch_close_reason: BatchCloseReason


@dataclass(frozen=True, slots=True)
class Classification:
    """The predictions of one image by one model version, the most confident first."""

    predictions: list[Prediction]
    model: ModelRef
    timing: Timing
    heat_map: bytes = b""
    """A PNG file; empty unless asked for."""
    cache: CacheStatus = CacheStatus.OFF


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
