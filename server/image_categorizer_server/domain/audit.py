"""Values about the audit: what happened, and the actor."""

from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum


class AuditAction(Enum):
    """What happened.  Actions of a caller are in the present tense, the system's in the past."""

    BATCH_CREATE = "batch.create"
    BATCH_CANCEL = "batch.cancel"
    BATCH_RETRY = "batch.retry"
    BATCH_DELETE = "batch.delete"
    BATCH_COMPLETED = "batch.completed"
    BATCH_CANCELLED = "batch.cancelled"
    BATCH_FAILED = "batch.failed"
    BATCH_ITEM_CRASHED = "batch.item_crashed"
    SESSION_CREATE = "session.create"
    SESSION_END = "session.end"
    WEBHOOK_CREATE = "webhook.create"
    WEBHOOK_UPDATE = "webhook.update"
    WEBHOOK_ROTATE_SECRET = "webhook.rotate_secret"  # noqa: S105 - the name of an action
    WEBHOOK_DELETE = "webhook.delete"
    WEBHOOK_GONE = "webhook.gone"


@dataclass(frozen=True, slots=True)
class Actor:
    """The actor: an API key, and the request in which it acts."""

    key_id: str = ""
    """Empty for the system itself, such as a worker."""
    request_id: str = ""


SYSTEM = Actor()

current_actor: ContextVar[Actor] = ContextVar("current_actor", default=SYSTEM)
"""The actor of the current task; set once the caller of a request is known."""
