"""Values about categories that a tenant teaches by examples."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from image_categorizer_server.domain.classification import ModelRef


@dataclass(frozen=True, slots=True)
class OwnCategory:
    """A category of a tenant."""

    category: str
    example_count: int
    create_time: datetime
    image_ids: tuple[str, ...] = ()
    """Of its examples, the newest first; empty in lists."""


@dataclass(frozen=True, slots=True)
class NewExamples:
    """Examples to add, as they were sent."""

    contents: tuple[bytes, ...] = ()
    """Encoded images."""
    image_ids: tuple[str, ...] = ()
    subject_id: str = ""
    """Whose images `contents` are."""


class HeadKind(Enum):
    """What decides between the categories; see `CategoryHead.Kind` in category.proto."""

    NONE = "KIND_UNSPECIFIED"
    MEANS = "MEANS"
    LINEAR = "LINEAR"


@dataclass(frozen=True, slots=True)
class HeadTrial:
    """How a new head compared with the one before it, on held-out examples."""

    create_time: datetime
    total_count: int
    right_count: int
    baseline_right_count: int
    refusal: str
    """Why it was not promoted; empty if it was."""


@dataclass(frozen=True, slots=True)
class HeadState:
    """What decides between a tenant's categories, for one model version."""

    model: ModelRef
    kind: HeadKind
    example_count: int
    is_fitting: bool
    """Whether a new head is to be fitted."""
    trial: HeadTrial | None
