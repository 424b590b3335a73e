"""Plain values about the outbox."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any


class OutboxKind(Enum):
    """What an outbox row asks for."""

    DOORBELL = "doorbell"
    """Workers are to be told that a batch waits."""
    WEBHOOK = "webhook"
    """The tenant is to be told that a batch ended."""
    BLOBS = "blobs"
    """Images are to be removed where nothing refers to them."""


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """What a transaction left to be done after it."""

    outbox_id: int
    tenant_id: str
    kind: OutboxKind
    batch_id: str
    payload: dict[str, Any]
    create_time: datetime
