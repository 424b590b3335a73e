"""What the client says about retention."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """How long data of a class is kept."""

    data_class: str
    """`IMAGES`, `RESULTS`, `BATCHES`, `DELIVERIES` or `AUDIT`."""
    days: int
    """0: for ever."""
    is_default: bool
    """Whether it is the default of the server."""


@dataclass(frozen=True, slots=True)
class RetentionForecast:
    """What retention would remove of a class now."""

    rule: RetentionRule
    count: int
    size_bytes: int
    oldest_time: datetime | None
    """Of the oldest that would go; None if none would."""
    held_count: int
    """How many are old enough, but stay because of a legal hold."""
