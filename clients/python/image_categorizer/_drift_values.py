"""What the client says about drift."""

from dataclasses import dataclass
from datetime import date
from enum import StrEnum


class DriftState(StrEnum):
    """What the population stability index of a version means."""

    NOT_ENOUGH_IMAGES = "NOT_ENOUGH_IMAGES"
    """The window has fewer than 100 images, or the reference fewer than 500."""
    STABLE = "STABLE"
    """Both indices are below 0.1."""
    MODERATE = "MODERATE"
    """The larger index is at least 0.1."""
    SHIFTED = "SHIFTED"
    """The larger index is at least 0.25."""


@dataclass(frozen=True, slots=True)
class DriftPeriod:
    """Days, and how many images were classified in them."""

    start_date: date
    end_date: date
    images: int


@dataclass(frozen=True, slots=True)
class DriftBucket:
    """The share of a category, or of a range of confidences."""

    name: str
    """A category; `other`; empty for images without a prediction. Or such as `0.3-0.4`."""
    window_share: float
    """In [0, 1]."""
    reference_share: float
    contribution: float
    """To the index, at least 0."""


@dataclass(frozen=True, slots=True)
class Drift:
    """How what a version predicts in a window differs from a reference."""

    model: str
    version: int
    state: DriftState
    category_index: float
    """The population stability index of the first categories."""
    confidence_index: float
    """That of their confidences."""
    window: DriftPeriod
    reference: DriftPeriod
    categories: tuple[DriftBucket, ...]
    """The most frequent categories of the reference, and the others together."""
    confidences: tuple[DriftBucket, ...]
