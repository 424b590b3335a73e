"""What the client says about reviews."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypedDict

from image_categorizer._image_values import StoredImage

ReviewOrder = Literal["UNCERTAINTY", "DISAGREEMENT"]


class ReviewFilters(TypedDict, total=False):
    """Which images `client.reviews.list` yields: those that pass all filters."""

    category: str
    """Of the best prediction of the newest result, or above it."""
    model: str
    """The model of the newest result, in any version."""
    start_time: datetime
    """Stored then or later; with a time zone."""
    end_time: datetime
    """Stored before; with a time zone."""
    skipped: bool
    """Those that were put aside, instead of the others."""


@dataclass(frozen=True, slots=True)
class ReviewItem:
    """A stored image that nobody has judged."""

    image: StoredImage
    uncertainty: float
    """How little the model decides between its two best predictions, in [0, 1]."""
    disagreement: float | None = None
    """The share of the most similar images that show another category; None: not compared yet."""
    skip_time: datetime | None = None
    """When it was put aside."""


@dataclass(frozen=True, slots=True)
class ReviewerPair:
    """Two reviewers, and the results that both have judged."""

    reviewer: str
    other_reviewer: str
    result_count: int
    observed_agreement: float
    """The share of these of which they say the same, in [0, 1]."""
    cohen_kappa: float | None = None
    """None if both say one category of all."""


@dataclass(frozen=True, slots=True)
class ReviewAgreement:
    """How far reviewers agree about the results that two or more have judged."""

    result_count: int
    reviewer_count: int
    observed_agreement: float | None
    """In [0, 1]; None without results."""
    fleiss_kappa: float | None
    """1 if they always agree, 0 if as often as by chance; None without results, or if all say one
    category."""
    pairs: tuple[ReviewerPair, ...] = ()
    """Those with the most results in common."""
