"""What the client says about subjects."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Erasure:
    """The removal of all that is stored about a subject."""

    erasure_id: str
    subject_key: str
    """The keyed hash of the subject; its name is not kept."""
    state: str
    """`RUNNING`, or `DONE`."""
    removed: dict[str, int]
    """What was removed so far, by table or store."""
    certificate: str
    """Signed JSON; empty until the erasure is done."""
    create_time: datetime
    end_time: datetime | None
    """When nothing was left; None until then."""
    allow_time: datetime | None
    """When the subject was allowed again; None while nothing of it is stored."""

    @property
    def is_done(self) -> bool:
        """Whether nothing of the subject is left."""
        return self.state == "DONE"
