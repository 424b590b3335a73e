"""Values about feedback: what people say about results, and what follows from it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Judgement(StrEnum):
    """What somebody says about a result; see `Judgement` in feedback.proto."""

    RIGHT = "RIGHT"
    WRONG = "WRONG"
    NOT_IN_LIST = "NOT_IN_LIST"


@dataclass(frozen=True, slots=True)
class NewFeedback:
    """Feedback to give, as it was sent."""

    image_id: str
    judgement: Judgement
    result_id: str = ""
    """Empty for the newest."""
    category: str = ""
    """What the image shows: of WRONG only."""
    reviewer: str = ""
    """Who says it."""


@dataclass(frozen=True, slots=True)
class Feedback:
    """What somebody says about one result."""

    feedback_id: str
    image_id: str
    result_id: str
    judgement: Judgement
    category: str
    """What the image shows; `UNKNOWN` for NOT_IN_LIST."""
    create_time: datetime
    number: int = 0
    """Its place among those of the tenant; 0 before it is kept."""
    undo_time: datetime | None = None
    reviewer: str = ""
    """Empty if an earlier release kept it."""
    answered: str = ""
    """The first prediction of the result; empty if it has none."""
