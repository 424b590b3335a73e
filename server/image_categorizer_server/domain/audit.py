"""Plain values about the audit: what is written down, and for whom it was done."""

from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum


class AuditAction(Enum):
    """What happened; an order of somebody's in the present, what came of itself in the past."""

    BATCH_CREATE = "batch.create"
    BATCH_CANCEL = "batch.cancel"
    BATCH_RETRY = "batch.retry"
    BATCH_DELETE = "batch.delete"
    BATCH_COMPLETED = "batch.completed"
    BATCH_CANCELLED = "batch.cancelled"
    BATCH_FAILED = "batch.failed"
    BATCH_ITEM_CRASHED = "batch.item_crashed"
    WEBHOOK_CREATE = "webhook.create"
    WEBHOOK_UPDATE = "webhook.update"
    WEBHOOK_ROTATE_SECRET = "webhook.rotate_secret"  # noqa: S105 - the name of an action
    WEBHOOK_DELETE = "webhook.delete"
    WEBHOOK_GONE = "webhook.gone"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: an API key, by one request."""

    key_id: str = ""
    """Empty: the system itself, such as a worker."""
    request_id: str = ""


SYSTEM = Actor()

current_actor: ContextVar[Actor] = ContextVar("current_actor", default=SYSTEM)
"""For whom the current task works; set at the edge, once the caller is known."""
