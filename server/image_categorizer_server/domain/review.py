"""Values about reviews: what people should look at next, and how far they agree."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from image_categorizer_server.domain.classification import Prediction, Source
from image_categorizer_server.domain.feedback import Judgement
from image_categorizer_server.domain.image import Image

DIGITS = 6


class ReviewState(StrEnum):
    """What people say about an image; see `ListImagesRequest.ReviewState`."""

    UNREVIEWED = "UNREVIEWED"
    RIGHT = "RIGHT"
    CORRECTED = "CORRECTED"
    NOT_IN_LIST = "NOT_IN_LIST"
    REVIEWED = "REVIEWED"


STATES = {
    Judgement.RIGHT: ReviewState.RIGHT,
    Judgement.WRONG: ReviewState.CORRECTED,
    Judgement.NOT_IN_LIST: ReviewState.NOT_IN_LIST,
}
"""The state of an image by the newest judgement."""


class ReviewOrder(StrEnum):
    """Which items are first."""

    UNCERTAINTY = "UNCERTAINTY"
    DISAGREEMENT = "DISAGREEMENT"


@dataclass(frozen=True, slots=True)
class ReviewFilter:
    """Which items are listed; those that pass all that is given."""

    order: ReviewOrder = ReviewOrder.UNCERTAINTY
    category: str = ""
    """Of the best prediction, or above it."""
    model: str = ""
    start_time: datetime | None = None
    """When the image was stored, at the earliest."""
    end_time: datetime | None = None
    """Before when it was."""
    skipped: bool = False
    """Only those that were put aside, instead of the others."""

    @property
    def has_one_term(self) -> bool:
        """Whether nothing but a category or a model chooses among what waits."""
        is_any_time = self.start_time is None and self.end_time is None
        return is_any_time and not self.skipped and bool(self.category) != bool(self.model)


@dataclass(frozen=True, slots=True)
class QueuedImage:
    """A place in the queue."""

    image_id: str
    uncertainty: float
    disagreement: float | None
    """None: not compared yet."""
    skip_time: datetime | None


@dataclass(frozen=True, slots=True)
class ReviewItem:
    """An image that nobody has judged."""

    place: QueuedImage
    image: Image


@dataclass(frozen=True, slots=True)
class Vote:
    """What one reviewer says about one result."""

    result_id: str
    reviewer: str
    category: str


@dataclass(frozen=True, slots=True)
class ReviewerPair:
    """Two reviewers, and the results that both have judged."""

    reviewer: str
    other_reviewer: str
    result_count: int
    observed: float
    """The share of these of which they say the same."""
    cohen_kappa: float | None
    """None if both say one category of all."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far reviewers agree."""

    result_count: int
    reviewer_count: int
    observed: float | None
    """None without results."""
    fleiss_kappa: float | None
    """None without results, or if all say one category."""
    pairs: tuple[ReviewerPair, ...]


def uncertainty_of(predictions: Sequence[Prediction]) -> float:
    """Returns how little a model decides between its two best predictions, in [0, 1].

    Corrections of others are not the model's.  If the model has one prediction, the other one has
    what the first leaves of 1, and no more than the first.
    """
    own = sorted((p.confidence for p in predictions if p.source is Source.MODEL), reverse=True)
    if not own:
        return 1.0
    first = own[0]
    second = own[1] if len(own) > 1 else min(first, 1 - first)
    return rounded(1 - first + second)


def rounded(score: float) -> float:
    """Returns a score in [0, 1] as it is stored: a page begins after exactly such a number."""
    return round(min(max(score, 0.0), 1.0), DIGITS)
