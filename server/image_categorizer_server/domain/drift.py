"""Values about drift, and the index that measures it.

The population stability index of two distributions is the sum of (p - q) ln(p / q) over their
buckets (Siddiqi, Credit Risk Scorecards, 2006): 0 if they are equal.  By convention, 0.1 is a
moderate shift, and 0.25 a large one.  If nothing has changed, chance alone makes an index of about
(buckets - 1) (1 / images + 1 / images of the reference) (Yurdakul & Naranjo, The Journal of Risk
Model Validation, 2020): so the number of buckets depends on the number of images.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import Enum

CONFIDENCE_BINS = 10
MAX_CATEGORIES = 20
OTHER = "other"
NO_PREDICTION = ""
MODERATE_INDEX = 0.1
SHIFTED_INDEX = 0.25
MIN_IMAGES = 100
MIN_REFERENCE_IMAGES = 500
CHANCE_INDEX = 0.05
"""What chance alone may make of the index, on average."""
SMOOTHING = 0.5
"""Added to each count, so that an empty bucket has no infinite part in the index."""


class DriftState(Enum):
    """What an index means; see `Drift.State` in drift.proto."""

    NOT_ENOUGH_IMAGES = "NOT_ENOUGH_IMAGES"
    STABLE = "STABLE"
    MODERATE = "MODERATE"
    SHIFTED = "SHIFTED"


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a model, as a tenant uses it."""

    tenant_id: str
    """Empty for all tenants together."""
    model: str
    number: int


@dataclass(frozen=True, slots=True)
class Days:
    """Days in UTC; both ends are included."""

    first: date
    last: date


@dataclass(frozen=True, slots=True)
class Counts:
    """What was predicted in some days: images by first category, and by its confidence."""

    days: Days
    images: int
    categories: Mapping[str, int]
    confidences: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Bucket:
    """The share of a category, or of a range of confidences."""

    name: str
    window_share: float
    reference_share: float
    contribution: float
    """To the index, at least 0."""


@dataclass(frozen=True, slots=True)
class Drift:
    """How what a version predicts in a window differs from a reference."""

    version: Version
    window: Counts
    reference: Counts
    categories: tuple[Bucket, ...] = ()
    """Empty if there are not enough images, as are the confidences."""
    confidences: tuple[Bucket, ...] = ()

    @property
    def category_index(self) -> float:
        """The population stability index of the categories."""
        return math.fsum(bucket.contribution for bucket in self.categories)

    @property
    def confidence_index(self) -> float:
        """That of the confidences."""
        return math.fsum(bucket.contribution for bucket in self.confidences)

    @property
    def index(self) -> float:
        """The larger of the two."""
        return max(self.category_index, self.confidence_index)

    @property
    def state(self) -> DriftState:
        """What the index means."""
        if not self.categories:
            return DriftState.NOT_ENOUGH_IMAGES
        if self.index >= SHIFTED_INDEX:
            return DriftState.SHIFTED
        return DriftState.MODERATE if self.index >= MODERATE_INDEX else DriftState.STABLE


def bin_of(confidence: float) -> str:
    """Returns the name of the range that a confidence is in, such as `0.3-0.4`."""
    number = min(int(confidence * CONFIDENCE_BINS), CONFIDENCE_BINS - 1)
    return f"{number / CONFIDENCE_BINS:.1f}-{(number + 1) / CONFIDENCE_BINS:.1f}"


BINS = tuple(bin_of((number + 0.5) / CONFIDENCE_BINS) for number in range(CONFIDENCE_BINS))


def drift_of(version: Version, window: Counts, reference: Counts) -> Drift:
    """Returns how a window differs from a reference."""
    if window.images < MIN_IMAGES or reference.images < MIN_REFERENCE_IMAGES:
        return Drift(version, window, reference)
    most = _bucket_count(window.images, reference.images)
    common = sorted(reference.categories, key=lambda c: (-reference.categories[c], c))
    names = [name for name in common if name != OTHER][: min(most - 1, MAX_CATEGORIES)]
    return Drift(
        version,
        window,
        reference,
        _buckets(names, window.categories, reference.categories),
        _ranges(most, window.confidences, reference.confidences),
    )


def _bucket_count(images: int, reference_images: int) -> int:
    """Returns how many buckets chance allows, at least 2."""
    return max(2, 1 + int(CHANCE_INDEX / (1 / images + 1 / reference_images)))


def _ranges(
    most: int, window: Mapping[str, int], reference: Mapping[str, int]
) -> tuple[Bucket, ...]:
    """Returns the ranges of confidences: two neighbours together if chance allows fewer."""
    width = 1 if most >= CONFIDENCE_BINS else 2
    groups = [BINS[start : start + width] for start in range(0, CONFIDENCE_BINS, width)]
    merged = [
        {_span(group): sum(counts.get(name, 0) for name in group) for group in groups}
        for counts in (window, reference)
    ]
    return _buckets([_span(group) for group in groups], *merged)


def _span(group: Sequence[str]) -> str:
    return f"{group[0].split('-')[0]}-{group[-1].split('-')[1]}"


def _buckets(
    names: Sequence[str], window: Mapping[str, int], reference: Mapping[str, int]
) -> tuple[Bucket, ...]:
    """Returns the buckets with these names, and `other` for the rest if there is any."""
    counts = [[found.get(name, 0) for name in names] for found in (window, reference)]
    rests = [sum(found.values()) for found in (window, reference)]
    rests = [rest - sum(counted) for rest, counted in zip(rests, counts, strict=True)]
    if any(rests):
        names = [*names, OTHER]
        counts = [[*counted, rest] for counted, rest in zip(counts, rests, strict=True)]
    return tuple(
        Bucket(name, p, q, (p - q) * math.log(p / q))
        for name, p, q in zip(names, *map(_shares, counts), strict=True)
    )


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts) + SMOOTHING * len(counts)
    return [(count + SMOOTHING) / total for count in counts]
