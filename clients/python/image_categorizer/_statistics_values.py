"""What the client says about a server process."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Distribution:
    """How often a value was in each range."""

    upper_bounds: tuple[float, ...] = ()
    """Of each range but the last, ascending."""
    counts: tuple[float, ...] = ()
    """One more than bounds; empty without a value."""
    sum: float = 0.0

    @property
    def count(self) -> float:
        """How many values there are."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """The mean of all values; 0 without one."""
        return self.sum / self.count if self.counts else 0.0


@dataclass(frozen=True, slots=True)
class ModelStatistics:
    """What a version of a model does. Times are in seconds."""

    model: str
    version: str
    queue_depth: int
    """Images between their arrival at the micro-batcher and their outcome."""
    images: Mapping[str, float]
    """Images that have left it, by outcome: OK, an `ErrorReason`, or CANCELLED."""
    dropped_images: Mapping[str, float]
    """Images that nobody waits for any more, by the stage that they waited for."""
    executions: Mapping[str, float]
    """Calls of the model, by what closed the micro-batch."""
    micro_batch_images: Distribution
    queue_s: Distribution
    decode_s: Distribution
    inference_s: Distribution


@dataclass(frozen=True, slots=True)
class PendingWork:
    """Work of the tenant that is not finished."""

    chunk_count: int
    message_count: int
    delivery_count: int


@dataclass(frozen=True, slots=True)
class ServerStatistics:
    """What the process that answered has counted since its start.

    The difference of two answers with the same `process_id` is what happened between them.
    """

    process_id: str
    release: str
    start_time: datetime
    read_time: datetime
    in_flight_count: int
    calls: Mapping[tuple[str, str], float]
    """By method and gRPC status."""
    errors: Mapping[str, float]
    """By `ErrorReason`."""
    cache_lookups: Mapping[str, float]
    event_loop_lag_s: Distribution
    models: tuple[ModelStatistics, ...]
    pending: PendingWork
