"""Plain values about batches: what was asked, what became of each image, what is left to do."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from image_categorizer_server.domain.classification import (
    Classification,
    ClassifyOptions,
    ModelRef,
    Prediction,
)


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
    worker_crashes: int
    """How often a worker died while it held the chunk."""
    is_isolated: bool
    """Holds a single item that is suspected of killing workers: run it in a process of its own."""
    server_crashes: dict[int, int] = field(default_factory=dict)
    """How often the server died while it had an item, by number; those of which it did."""


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
