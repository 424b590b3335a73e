"""Values about erasures: the removal of all that is stored about a subject."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from image_categorizer_server.domain.audit import canonical, utc_text


class ErasureState(Enum):
    """How far an erasure is."""

    RUNNING = "RUNNING"
    DONE = "DONE"


@dataclass(frozen=True, slots=True)
class Erasure:
    """The removal of a subject, and its tombstone until the subject is allowed again."""

    tenant_id: str
    erasure_id: str
    subject_key: str
    """Keyed hash of the subject."""
    state: ErasureState
    step: str
    """What is to be done next; empty once all is done."""
    counts: Mapping[str, int]
    """What was removed so far, by table or store."""
    certificate: str
    """JSON; empty until the erasure is done."""
    create_time: datetime
    end_time: datetime | None = None
    allow_time: datetime | None = None
    """When the subject was allowed again."""

    def statement(self, end_time: datetime) -> str:
        """Returns the canonical JSON that a certificate states and signs."""
        return canonical(
            {
                "tenant_id": self.tenant_id,
                "erasure_id": self.erasure_id,
                "subject_key": self.subject_key,
                "request_time": utc_text(self.create_time),
                "end_time": utc_text(end_time),
                "removed": dict(self.counts),
            }
        )
