"""Values about legal holds: what must not be removed."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class HoldKind(Enum):
    """What a hold is about."""

    IMAGE = "image"
    SUBJECT = "subject"
    TENANT = "tenant"


@dataclass(frozen=True, slots=True)
class HoldTarget:
    """What is held."""

    kind: HoldKind
    key: str = ""
    """The id of the image, or the key of the subject; empty for the tenant."""

    def text(self) -> str:
        """Returns the target as tables have it."""
        return f"{self.kind.value}:{self.key}"

    @classmethod
    def from_text(cls, text: str) -> "HoldTarget":
        """Returns the target that `text` has written."""
        kind, _, key = text.partition(":")
        return cls(HoldKind(kind), key)


WHOLE_TENANT = HoldTarget(HoldKind.TENANT)


@dataclass(frozen=True, slots=True)
class LegalHold:
    """Keeps its target from being removed until it ends."""

    tenant_id: str
    hold_id: str
    target: HoldTarget
    reference: str
    """For the caller's own records."""
    create_time: datetime
    end_time: datetime | None = None
