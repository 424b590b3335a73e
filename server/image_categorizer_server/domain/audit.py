"""Values about the audit: what happened, who did it, and how the events of a tenant are chained."""

import hashlib
import json
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import Enum

PLATFORM_CHAIN = "_platform"
"""The chain of events that belong to no tenant, such as calls without valid credentials.  Not a
tenant: names of tenants begin with no underscore."""
FIRST_PREV_HASH = "0" * 64
"""What the first event of a chain has for the hash of the one before it."""


class AuditAction(Enum):
    """What happened.  Actions of a caller are in the present tense, the system's in the past."""

    ACCESS_UNAUTHENTICATED = "access.unauthenticated"
    ACCESS_DENIED = "access.denied"
    ACCESS_LIMITED = "access.limited"
    AUDIT_EXPORT = "audit.export"
    AUDIT_REMOVED = "audit.removed"
    BACKUP_CREATED = "backup.created"
    BACKUP_RESTORED = "backup.restored"
    BATCH_CREATE = "batch.create"
    BATCH_CANCEL = "batch.cancel"
    BATCH_RETRY = "batch.retry"
    BATCH_DELETE = "batch.delete"
    BATCH_COMPLETED = "batch.completed"
    BATCH_CANCELLED = "batch.cancelled"
    BATCH_FAILED = "batch.failed"
    BATCH_ITEM_CRASHED = "batch.item_crashed"
    CATEGORY_CREATE = "category.create"
    CATEGORY_DELETE = "category.delete"
    CATEGORY_HEAD_PROMOTED = "category.head_promoted"
    DATA_KEY_CREATED = "data_key.created"
    DATA_KEY_REWRAP = "data_key.rewrap"
    DATA_KEY_ERASE = "data_key.erase"
    DATASET_EXPORT = "dataset.export"
    IMAGE_DELETE = "image.delete"
    KEY_CREATE = "key.create"
    KEY_UPDATE = "key.update"
    KEY_ROTATE = "key.rotate"
    KEY_REVOKE = "key.revoke"
    MODEL_LOAD = "model.load"
    MODEL_UNLOAD = "model.unload"
    MODEL_SET_ALIAS = "model.set_alias"
    LEGAL_HOLD_CREATE = "legal_hold.create"
    LEGAL_HOLD_RELEASE = "legal_hold.release"
    RETENTION_UPDATE = "retention.update"
    RETENTION_REMOVED = "retention.removed"
    SESSION_CREATE = "session.create"
    SESSION_END = "session.end"
    SUBJECT_ERASE = "subject.erase"
    SUBJECT_ERASED = "subject.erased"
    SUBJECT_ALLOW = "subject.allow"
    SUBJECT_EXPORT = "subject.export"
    TENANT_CREATE = "tenant.create"
    TENANT_UPDATE = "tenant.update"
    TENANT_SUSPEND = "tenant.suspend"
    TENANT_RESUME = "tenant.resume"
    TENANT_DELETE = "tenant.delete"
    TENANT_REMOVED = "tenant.removed"
    WEBHOOK_CREATE = "webhook.create"
    WEBHOOK_UPDATE = "webhook.update"
    WEBHOOK_ROTATE_SECRET = "webhook.rotate_secret"  # noqa: S105 - the name of an action
    WEBHOOK_DELETE = "webhook.delete"
    WEBHOOK_GONE = "webhook.gone"


class AuditOutcome(Enum):
    """What became of what the actor wanted."""

    OK = "OK"
    DENIED = "DENIED"


@dataclass(frozen=True, slots=True)
class Actor:
    """The actor, and the request in which it acts."""

    actor_id: str = ""
    """The id of an API key, the name of a user, or `cli:` and a user of the operating system.
    Empty for the system itself, such as a worker, and for callers that are not known."""
    request_id: str = ""
    address: str = ""
    """The IP address of the client; empty if there is none."""


SYSTEM = Actor()

current_actor: ContextVar[Actor] = ContextVar("current_actor", default=SYSTEM)
"""The actor of the current task; set once the caller of a request is known."""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event that is not in a chain yet."""

    tenant_id: str
    time: datetime
    actor: Actor
    action: AuditAction
    resource: str = ""
    outcome: AuditOutcome = AuditOutcome.OK
    detail: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """An event in the chain of a tenant."""

    tenant_id: str
    seq: int
    """Counted from 1, without gaps."""
    time: datetime
    actor_id: str
    action: str
    """An `AuditAction`, or one of another release."""
    resource: str
    """The name of what it happened to."""
    outcome: str
    address: str
    request_id: str
    detail: Mapping[str, object]
    prev_hash: str
    hash: str

    def hashed_fields(self) -> dict[str, object]:
        """Returns the fields that the hash covers, as JSON can hold them."""
        return {
            "tenant_id": self.tenant_id,
            "seq": self.seq,
            "time": utc_text(self.time),
            "actor_id": self.actor_id,
            "action": self.action,
            "resource": self.resource,
            "outcome": self.outcome,
            "address": self.address,
            "request_id": self.request_id,
            "detail": self.detail,
            "prev_hash": self.prev_hash,
        }

    def computed_hash(self) -> str:
        """Returns the hash that an event with these fields has: 64 hexadecimal digits."""
        return sha256_of(canonical(self.hashed_fields()))

    def line(self) -> str:
        """Returns all fields as one line of canonical JSON, without an end of line."""
        return canonical({**self.hashed_fields(), "hash": self.hash})


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain."""

    tenant_id: str
    seq: int
    hash: str
    removed_seq: int = 0
    """The last event that retention has removed; 0 for none."""
    removed_hash: str = ""


@dataclass(frozen=True, slots=True)
class Statement:
    """What the server states about a chain at one moment, in an object of its own."""

    tenant_id: str
    seq: int
    """The last event."""
    hash: str
    time: datetime
    previous: str
    """The SHA-256 of the statement before this one, without its signature; empty for the first."""
    removed_seq: int = 0
    """Up to this event, retention has removed the chain, or is about to; 0 for nothing."""
    removed_hash: str = ""

    def text(self) -> str:
        """Returns the canonical JSON that is hashed and signed."""
        return canonical({**asdict(self), "time": utc_text(self.time)})

    @classmethod
    def from_fields(cls, fields: Mapping[str, object]) -> "Statement":
        """Returns the statement with the fields of its JSON.

        Raises:
            ValueError, TypeError: they are not those of a statement.
        """
        values = {**fields, "time": time_of(str(fields.get("time")))}
        statement = cls(**values)  # type: ignore[arg-type]  # checked by its text
        if statement.text() != canonical(fields):
            raise ValueError("the statement has other fields")
        return statement


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events of a chain to list."""

    start_time: datetime | None = None
    """The earliest time."""
    end_time: datetime | None = None
    """The end, exclusive."""
    actor_id: str = ""
    action: str = ""
    """An action, or its first part with a point: `batch.`"""
    resource: str = ""
    outcome: str = ""
    address: str = ""


def canonical(value: object) -> str:
    """Returns JSON in the canonical form of RFC 8785.

    It holds for what events and statements contain: texts, integers below 2^53, booleans, null, and
    lists and objects of these.  The names of fields are ASCII.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sha256_of(text: str) -> str:
    """Returns the SHA-256 of a text in UTF-8: 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def utc_text(time: datetime) -> str:
    """Returns a time as RFC 3339 in UTC, with six decimals: `2026-01-31T23:59:59.000001Z`."""
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"


def time_of(text: str) -> datetime:
    """Returns the time that `utc_text` has written.

    Raises:
        ValueError: it is not one.
    """
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
