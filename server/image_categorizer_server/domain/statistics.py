"""Values about what a server process counts."""

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Distribution:
    """How often a value was in each range."""

    upper_bounds: tuple[float, ...] = ()
    """Of each range but the last, ascending."""
    counts: tuple[float, ...] = ()
    """One more than bounds; empty without a value."""
    sum: float = 0.0


@dataclass(slots=True)
class ModelStatistics:
    """What a version of a model does; counts by label."""

    model: str
    version: str
    queue_depth: int = 0
    images: dict[str, float] = field(default_factory=dict)
    dropped_images: dict[str, float] = field(default_factory=dict)
    executions: dict[str, float] = field(default_factory=dict)
    micro_batch_images: Distribution = Distribution()
    queue_s: Distribution = Distribution()
    decode_s: Distribution = Distribution()
    inference_s: Distribution = Distribution()


@dataclass(frozen=True, slots=True)
class PendingWork:
    """Work of a tenant that is not finished."""

    chunk_count: int
    message_count: int
    delivery_count: int


@dataclass(frozen=True, slots=True)
class ServerStatistics:
    """What a process has counted since its start."""

    process_id: str
    release: str
    start_time: datetime
    read_time: datetime
    in_flight_count: int
    calls: dict[tuple[str, str], float]
    """By method and gRPC status."""
    errors: dict[str, float]
    cache_lookups: dict[str, float]
    event_loop_lag_s: Distribution
    models: tuple[ModelStatistics, ...]
    pending: PendingWork
