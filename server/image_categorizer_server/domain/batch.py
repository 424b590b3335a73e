"""Values about batches: their configuration, their items, the outcomes, the chunks of work."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from image_categorizer_server.domain.classification import (
    Classification,
    ClassifyOptions,
    ImageWarning,
    ModelRef,
    Prediction,
)


class BatchState(Enum):
    """The state of a batch; see `Batch.State` in batch.proto."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    CANCELLING = "CANCELLING"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"

    @property
    def has_ended(self) -> bool:
        """Whether the batch is final, unless it is retried."""
        return self in (BatchState.COMPLETED, BatchState.CANCELLED, BatchState.FAILED)


@dataclass(frozen=True, slots=True)
class BatchConfig:
    """How to run a batch; see `BatchConfig` in batch.proto."""

    options: ClassifyOptions = field(default_factory=ClassifyOptions)
    webhook_url: str = ""
    """The address to notify when the batch ends; empty for none."""
    request_id: str = ""
    """Makes creating the batch idempotent; empty for none."""
    priority: int = 0
    subject_key: str = ""
    """Keyed hash of the options' subject; empty for none."""


@dataclass(frozen=True, slots=True)
class ItemError:
    """Why one item failed."""

    status: str
    """Name of the gRPC status code."""
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One image of a batch: stored under a key, or to be fetched from a URI."""

    number: int
    """From 0, within the batch."""
    filename: str
    object_key: str | None
    image_uri: str | None
    size_bytes: int | None
    blur: tuple[str, ...] = ()
    """What is blurred in what the server keeps of an image from a URI; see `domain.blur`."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Items of one batch that one worker has leased together."""

    batch_id: str
    number: int
    tenant_id: str
    lease_token: int
    """Proves the lease.  Each lease has a greater token than all earlier ones."""
    options: ClassifyOptions
    items: tuple[BatchItem, ...]
    """The items without an outcome, by number."""
    worker_crashes: int
    """How often a worker crashed while it held the chunk."""
    is_isolated: bool
    """Whether the chunk is one item that may crash workers, to run in a process of its own."""
    server_crashes: dict[int, int] = field(default_factory=dict)
    """How often the server crashed while it had an item, by number; without items at zero."""
    key_id: str = ""
    """The API key that created the batch."""
    traceparent: str = ""
    """Names the span of the call that created the batch; empty without traces."""


@dataclass(frozen=True, slots=True)
class ItemOutcome:
    """The outcome of one item: exactly one of the two is not None."""

    number: int
    classification: Classification | None = None
    error: ItemError | None = None


@dataclass(frozen=True, slots=True)
class ItemResult:
    """The stored outcome of one item."""

    number: int
    filename: str
    predictions: tuple[Prediction, ...]
    """Ordered by confidence, the highest first; empty if the item failed."""
    model: ModelRef | None
    """None if the item failed."""
    error: ItemError | None
    """None if the item was classified."""
    warnings: tuple[ImageWarning, ...] = ()

    def public_fields(self) -> dict[str, object]:
        """Returns what exports show."""
        best = self.predictions[0] if self.predictions else None
        return {
            "item_id": str(self.number),
            "filename": self.filename,
            "category": best.category.name if best else None,
            "confidence": best.confidence if best else None,
            "predictions": [p.public_fields() for p in self.predictions],
            "error_reason": self.error.reason if self.error else None,
            "warnings": list(self.warnings),
            "raw_confidence": best.raw_confidence if best else None,
        }


@dataclass(frozen=True, slots=True)
class Batch:
    """Many images that are classified as one job."""

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
    ignored_count: int = 0
    """Files of operating systems in its zip files, such as `.DS_Store`, that became no items."""
    failures: tuple[ItemResult, ...] = ()
    """The first failures, by item."""
    items_per_s: float = 0.0
    """Finished items per second, over the last seconds; 0 unless RUNNING."""

    @property
    def pending_count(self) -> int:
        """The number of items without an outcome."""
        return self.item_count - self.succeeded_count - self.failed_count

    @property
    def remaining_s(self) -> float | None:
        """The time for the remaining items at the current rate; None if the rate is 0."""
        return self.pending_count / self.items_per_s if self.items_per_s > 0 else None
