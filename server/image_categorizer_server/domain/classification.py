"""Plain values that every floor speaks of; no behaviour beyond their own."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, IntEnum, StrEnum
from typing import Literal

DEFAULT_TENANT = "default"
DEFAULT_TOP_K = 5


class Role(IntEnum):
    """What a caller may do; each role but WORKER may do all that the ones before it may."""

    WORKER = 0
    """Classifies the images of batches, for the tenants whose they are, and does nothing else."""
    VIEWER = 1
    CLASSIFIER = 2
    OPERATOR = 3
    ADMIN = 4


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: one API key of one tenant."""

    key_id: str
    tenant_id: str
    role: Role


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key as it is kept: the secret itself is not."""

    key_id: str
    tenant_id: str
    name: str
    role: Role
    prefix: str
    """The key's first characters, to recognise it by."""
    create_time: datetime
    expire_time: datetime | None
    revoke_time: datetime | None


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


class Localization(Enum):
    """How a model tells where a category is; see `Model.Localization` in metadata.proto."""

    NONE = "LOCALIZATION_UNSPECIFIED"
    CLASS_ACTIVATION = "CLASS_ACTIVATION"
    ATTENTION_ROLLOUT = "ATTENTION_ROLLOUT"


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


class ModelState(Enum):
    """How far the server is with a model."""

    LOADING = "LOADING"
    READY = "READY"
    FAILED = "FAILED"
    UNLOADED = "UNLOADED"


Activation = Literal["softmax", "sigmoid"]


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One version of a model, as the server knows it."""

    ref: ModelRef
    state: ModelState
    state_message: str
    is_default: bool
    categories: tuple[Category, ...] = field(repr=False)
    input_width_px: int
    input_height_px: int
    activation: Activation
    runtime: str
    device: str
    licence: str
    origin: str
    aliases: tuple[str, ...]
    canary_percent: float
    """Share of the requests without a version that it answers as `canary`."""
    precision: str
    localization: Localization


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What the server is and accepts; the limits are those of `Limits` in metadata.proto."""

    version: str
    image_formats: tuple[str, ...]
    default_model: str
    max_image_bytes: int
    max_image_pixels: int
    max_side_px: int
    max_aspect_ratio: float
    max_filter_categories: int
    default_deadline_s: float
    max_deadline_s: float
    max_stream_in_flight: int
    max_batch_items: int
    max_batch_bytes: int
