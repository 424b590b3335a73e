"""Values about the outbox: work that a transaction leaves to be done after its commit."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class OutboxKind(Enum):
    """The kind of work."""

    DOORBELL = "doorbell"
    """Notify a worker that a batch waits."""
    WEBHOOK = "webhook"
    """Send a webhook: a batch ended, or an image was classified."""
    ROWS = "rows"
    """Remove the rows of a batch that was deleted, or of an upload that was given up."""
    BLOBS = "blobs"
    """Remove images, unless something refers to them."""
    REMOVING = "removing"
    """Images to which nothing refers: a process removes them now."""


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One piece of work."""

    outbox_id: int
    tenant_id: str
    kind: OutboxKind
    batch_id: str
    payload: dict[str, object]
    create_time: datetime
    take_after: datetime
    """When the lease ends that offered the row."""
