"""Values about retention: how long what is stored is kept."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class DataClass(Enum):
    """What is kept for the same time; see `DataClass` in retention.proto."""

    IMAGES = "IMAGES"
    RESULTS = "RESULTS"
    BATCHES = "BATCHES"
    DELIVERIES = "DELIVERIES"
    AUDIT = "AUDIT"


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """How long data of a class is kept."""

    data_class: DataClass
    days: float
    """0: for ever."""
    is_default: bool
    """Whether the settings say so, and not the tenant."""


@dataclass(frozen=True, slots=True)
class RetentionForecast:
    """What retention would remove of a class now."""

    rule: RetentionRule
    count: int
    size_bytes: int
    oldest_time: datetime | None
    """None if nothing would go."""
    held_count: int
    """What is old enough, but stays because of a legal hold."""
