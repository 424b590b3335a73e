"""What the client says about categories of one's own."""

from dataclasses import dataclass
from datetime import datetime

from image_categorizer._values import ModelRef


@dataclass(frozen=True, slots=True)
class OwnCategory:
    """A category that the tenant teaches by examples."""

    category: str
    example_count: int
    """Without those from feedback."""
    create_time: datetime
    image_ids: tuple[str, ...] = ()
    """The images of its examples, the newest first, at most 1000; empty in lists."""


@dataclass(frozen=True, slots=True)
class HeadTrial:
    """How a new head compared with the one before it, on examples that neither has seen."""

    create_time: datetime
    total_count: int
    right_count: int
    """Those that the new head has right."""
    baseline_right_count: int
    """Those that the head before it has right."""
    promoted: bool
    """Whether the new head decides now."""
    refusal: str
    """Why it was not promoted; empty if it was."""


@dataclass(frozen=True, slots=True)
class CategoryHead:
    """What decides between the tenant's categories, for one model version."""

    model: ModelRef
    kind: str
    """KIND_UNSPECIFIED without examples, MEANS or LINEAR."""
    example_count: int
    fitting: bool
    """Whether a new head is to be fitted."""
    trial: HeadTrial | None
    """The last one; None if there was none."""
