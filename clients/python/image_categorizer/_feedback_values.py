"""What the client says about feedback."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Feedback:
    """What somebody says about one result of a stored image."""

    feedback_id: str
    image_id: str
    result_id: str
    judgement: str
    """RIGHT, WRONG or NOT_IN_LIST."""
    category: str
    """What the image shows; UNKNOWN for NOT_IN_LIST."""
    create_time: datetime
    undo_time: datetime | None = None
    """None if it counts."""
    reviewer: str = ""
    """Who said it; empty if an earlier release of the server kept it."""
    look_alike_image_ids: tuple[str, ...] = ()
    """The images that the call has judged the same; only in its answer."""
