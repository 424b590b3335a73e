"""Plain values that every floor speaks of; no behaviour beyond their own."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, IntEnum
from typing import Any, Literal

DEFAULT_TENANT = "default"
DEFAULT_TOP_K = 5


class Role(IntEnum):
    """What a caller may do; each role may do all that the ones before it may."""

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


class Lane(Enum):
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


class BatchState(Enum):
    """How far a batch is; see `Batch.State` in batch.proto."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    CANCELLING = "CANCELLING"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"

    @property
    def has_ended(self) -> bool:
        """Whether nothing happens to the batch any more, unless it is retried."""
        return self in (BatchState.COMPLETED, BatchState.CANCELLED, BatchState.FAILED)


@dataclass(frozen=True, slots=True)
class BatchConfig:
    """How a batch is run; see `BatchConfig` in batch.proto."""

    options: ClassifyOptions = field(default_factory=ClassifyOptions)
    webhook_url: str = ""
    """Empty: nobody is told."""
    request_id: str = ""
    """Empty: creating is not idempotent."""
    priority: int = 0


@dataclass(frozen=True, slots=True)
class ItemError:
    """Why one item failed."""

    status: str
    """Name of the gRPC status code."""
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One image of a batch: either stored under a key or to be fetched from a URI."""

    number: int
    """Counted from 0 within the batch."""
    filename: str
    object_key: str | None
    image_uri: str | None
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Items of one batch that one worker has leased, together."""

    batch_id: str
    number: int
    tenant_id: str
    lease_token: int
    """Proves the lease; every lease has a greater one than all before."""
    options: ClassifyOptions
    items: tuple[BatchItem, ...]
    """Those that have no outcome yet, by number."""
    deaths: int
    """How often a worker died while it held the chunk."""
    is_alone: bool
    """Holds a single item that is suspected of killing workers: run it in a process of its own."""


@dataclass(frozen=True, slots=True)
class ItemOutcome:
    """What became of one item: exactly one of the two is not None."""

    number: int
    classification: Classification | None = None
    error: ItemError | None = None


@dataclass(frozen=True, slots=True)
class ItemResult:
    """The outcome of one item as it is kept."""

    number: int
    filename: str
    predictions: tuple[Prediction, ...]
    """The most confident first; empty where the item failed."""
    model: ModelRef | None
    """None where the item failed."""
    error: ItemError | None
    """None where the item was classified."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Many images that are classified together."""

    batch_id: str
    tenant_id: str
    state: BatchState
    state_message: str
    item_count: int
    succeeded_count: int
    failed_count: int
    create_time: datetime
    start_time: datetime | None
    end_time: datetime | None
    config: BatchConfig
    failures: tuple[ItemResult, ...] = ()
    """Some of the failures, the first by item."""
    items_per_s: float = 0.0
    """Over the last seconds; 0 unless RUNNING."""

    @property
    def pending_count(self) -> int:
        """How many items have no outcome yet."""
        return self.item_count - self.succeeded_count - self.failed_count

    @property
    def remaining_s(self) -> float | None:
        """How long the rest takes at the rate of now; None where there is no rate."""
        return self.pending_count / self.items_per_s if self.items_per_s > 0 else None


class OutboxKind(Enum):
    """What an outbox row asks for."""

    RING = "ring"
    """Workers are to be told that a batch waits."""
    WEBHOOK = "webhook"
    """The tenant is to be told that a batch ended."""
    BLOBS = "blobs"
    """Images are to be removed where nothing refers to them."""


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """What a transaction left to be done after it."""

    outbox_id: int
    tenant_id: str
    kind: OutboxKind
    batch_id: str
    payload: dict[str, Any]
    create_time: datetime
