"""What the client says about legal holds."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class LegalHold:
    """Keeps an image, a subject or the whole tenant from being removed."""

    hold_id: str
    image_id: str
    """Empty: another kind of hold."""
    subject_key: str
    """The keyed hash of the subject. Empty: another kind of hold."""
    whole_tenant: bool
    reference: str
    """What the caller wrote."""
    create_time: datetime
    end_time: datetime | None
    """None while it holds."""
