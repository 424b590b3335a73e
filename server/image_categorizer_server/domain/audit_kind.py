"""The kinds of events in the audit: what each means, and the details that it carries.

`docs/audit-events.md` is generated from this table.  A detail is a text of ours, an integer, a
boolean, or a list of these: never a text that a client chose, except the hosts of webhooks and the
names of aliases.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from image_categorizer_server.domain.audit import AuditAction

REFUSALS = {
    "method": "the RPC",
    "reason": "the reason of the error",
    "count": "how many calls the event stands for; above 1, they came within one minute",
}
COUNTS = {
    "run": "how often the batch was started",
    "item_count": "its items",
    "succeeded_count": "items with a classification",
    "failed_count": "items with an error",
}


@dataclass(frozen=True, slots=True)
class AuditKind:
    """What an action means."""

    meaning: str
    resource: str = ""
    """What the event names as its resource; empty for nothing."""
    details: Mapping[str, str] = field(default_factory=dict)
    """The meaning of each detail, by its name.  An event may lack some of them."""


BATCH, KEY, MODEL, TENANT = "the batch", "the API key", "the model", "the tenant"
WEBHOOK, DATA_KEY = "the webhook", "the data key"
PERSON = "the person, as in the actor of its later calls"
ERASURE = "the erasure"
HOLD, DATA_CLASS = "the hold", "the class of data"
HELD = {
    "kind": "`image`, `subject` or `tenant`",
    "target": "the image, or the keyed hash of the subject; empty for the tenant",
}
SUBJECT = {"subject_key": "the keyed hash of the subject"}
KEK = {"kek_id": "the key-encryption key that wraps it"}
RIGHTS = {
    "role": "its role",
    "scopes": "what it is limited to; empty for nothing",
    "allowed_addresses": "the networks it is accepted from; empty for all",
    "expire_time": "when it expires; null for never",
}
KINDS: Mapping[AuditAction, AuditKind] = {
    AuditAction.ACCESS_UNAUTHENTICATED: AuditKind(
        "A call had no credentials, or none that are valid", details=REFUSALS
    ),
    AuditAction.ACCESS_DENIED: AuditKind(
        "The role, the scopes or the tenant of the caller did not permit the call", details=REFUSALS
    ),
    AuditAction.ACCESS_LIMITED: AuditKind(
        "A rate limit or a quota refused a call", details=REFUSALS
    ),
    AuditAction.AUDIT_EXPORT: AuditKind(
        "A caller exported events", details={"format": "`jsonl` or `csv`"}
    ),
    AuditAction.AUDIT_REMOVED: AuditKind(
        "Retention removed the oldest events", details={"last_seq": "the number of the last one"}
    ),
    AuditAction.BACKUP_CREATED: AuditKind(
        "A command made a backup",
        details={
            "object_count": "stored objects that it lists",
            "has_objects": "whether it holds them, too",
        },
    ),
    AuditAction.BACKUP_RESTORED: AuditKind(
        "A command restored a backup: what happened after it is not in the audit",
        details={
            "backup_time": "when it was made",
            "erasure_count": "subjects that were erased after it, and erased again",
            "missing_count": "objects of its list that are not stored",
        },
    ),
    AuditAction.BATCH_CREATE: AuditKind(
        "A caller created a batch",
        BATCH,
        {"item_count": "its items", "priority": "its priority", "webhook_host": "host and port"},
    ),
    AuditAction.BATCH_CANCEL: AuditKind("A caller cancelled a batch", BATCH),
    AuditAction.BATCH_RETRY: AuditKind(
        "A caller started a batch again", BATCH, {"item_count": "items to be done again"}
    ),
    AuditAction.BATCH_DELETE: AuditKind(
        "A caller deleted a batch", BATCH, {"item_count": "its items"}
    ),
    AuditAction.BATCH_COMPLETED: AuditKind("All items of a batch have an outcome", BATCH, COUNTS),
    AuditAction.BATCH_CANCELLED: AuditKind("A cancelled batch ended", BATCH, COUNTS),
    AuditAction.BATCH_FAILED: AuditKind("A batch ended because it cannot run", BATCH, COUNTS),
    AuditAction.BATCH_ITEM_CRASHED: AuditKind(
        "An item failed because processes crash over it",
        BATCH,
        {"number": "the number of the item", "reason": "the reason of its error"},
    ),
    AuditAction.DATASET_EXPORT: AuditKind("A caller exported images as a labelled set"),
    AuditAction.IMAGE_DELETE: AuditKind("A caller deleted a stored image", "the image"),
    AuditAction.KEY_CREATE: AuditKind("A caller created an API key", KEY, RIGHTS),
    AuditAction.KEY_UPDATE: AuditKind("A caller changed an API key", KEY, RIGHTS),
    AuditAction.KEY_ROTATE: AuditKind("A caller replaced the secret of an API key", KEY),
    AuditAction.KEY_REVOKE: AuditKind("A caller revoked an API key", KEY, RIGHTS),
    AuditAction.CATEGORY_CREATE: AuditKind(
        "A caller created a category of its own", details={"example_count": "its examples"}
    ),
    AuditAction.CATEGORY_DELETE: AuditKind("A caller deleted a category of its own"),
    AuditAction.CATEGORY_HEAD_PROMOTED: AuditKind(
        "A head that was fitted to examples beat the one before it, and decides now",
        "the digest of the model",
        {
            "total_count": "held-out examples",
            "right_count": "those that the new head has right",
            "baseline_right_count": "those that the head before it has right",
        },
    ),
    AuditAction.DATA_KEY_CREATED: AuditKind(
        "The first data key of a tenant was made", DATA_KEY, KEK
    ),
    AuditAction.DATA_KEY_REWRAP: AuditKind(
        "A command wrapped a data key with another key-encryption key", DATA_KEY, KEK
    ),
    AuditAction.DATA_KEY_ERASE: AuditKind(
        "A command erased a data key, and with it what it encrypts", DATA_KEY, KEK
    ),
    AuditAction.MODEL_LOAD: AuditKind(
        "A caller ordered the server to load a version",
        MODEL,
        {"version": "a number; empty for the newest"},
    ),
    AuditAction.MODEL_UNLOAD: AuditKind(
        "A caller ordered the server to unload a version",
        MODEL,
        {"version": "a number or an alias"},
    ),
    AuditAction.MODEL_SET_ALIAS: AuditKind(
        "A caller ordered that an alias points to a version, or to none",
        MODEL,
        {
            "alias": "the alias",
            "version": "a number; empty if the alias is removed",
            "canary_permille": "the share of requests for the canary, in thousandths",
        },
    ),
    AuditAction.LEGAL_HOLD_CREATE: AuditKind("A caller created a legal hold", HOLD, HELD),
    AuditAction.LEGAL_HOLD_RELEASE: AuditKind("A caller ended a legal hold", HOLD, HELD),
    AuditAction.RETENTION_UPDATE: AuditKind(
        "A caller changed how long data is kept",
        DATA_CLASS,
        {"days": "a number; 0 for ever; null for the default"},
    ),
    AuditAction.RETENTION_REMOVED: AuditKind(
        "Retention removed what was too old",
        DATA_CLASS,
        {"count": "how many", "before": "what was older than this time"},
    ),
    AuditAction.SESSION_CREATE: AuditKind(
        "A person signed in", PERSON, {"role": "the role of the session"}
    ),
    AuditAction.SESSION_END: AuditKind("A person signed out", PERSON),
    AuditAction.SUBJECT_ERASE: AuditKind(
        "A caller asked to erase a subject; nothing of it is stored from now on", ERASURE, SUBJECT
    ),
    AuditAction.SUBJECT_ERASED: AuditKind("All of a subject is removed", ERASURE, SUBJECT),
    AuditAction.SUBJECT_ALLOW: AuditKind(
        "A caller allowed an erased subject again", ERASURE, SUBJECT
    ),
    AuditAction.SUBJECT_EXPORT: AuditKind(
        "A caller exported all of a subject", "the keyed hash of the subject"
    ),
    AuditAction.TENANT_CREATE: AuditKind("A caller created a tenant", TENANT),
    AuditAction.TENANT_UPDATE: AuditKind(
        "A caller changed the name or the limits of a tenant",
        TENANT,
        {"limits": "the names of its own limits; empty if only the name changed"},
    ),
    AuditAction.TENANT_SUSPEND: AuditKind("A caller suspended a tenant", TENANT),
    AuditAction.TENANT_RESUME: AuditKind("A caller ended the suspension of a tenant", TENANT),
    AuditAction.TENANT_DELETE: AuditKind("A caller ordered that a tenant is removed", TENANT),
    AuditAction.TENANT_REMOVED: AuditKind("All that a deleted tenant had is removed", TENANT),
    AuditAction.WEBHOOK_CREATE: AuditKind(
        "A caller created a webhook", WEBHOOK, {"host": "host and port"}
    ),
    AuditAction.WEBHOOK_UPDATE: AuditKind(
        "A caller changed a webhook",
        WEBHOOK,
        {"host": "host and port of the new address", "state": "the new state"},
    ),
    AuditAction.WEBHOOK_ROTATE_SECRET: AuditKind("A caller replaced the secret", WEBHOOK),
    AuditAction.WEBHOOK_DELETE: AuditKind("A caller deleted a webhook", WEBHOOK),
    AuditAction.WEBHOOK_GONE: AuditKind(
        "The address of a webhook answered 410", WEBHOOK, {"state": "`GONE`"}
    ),
}


def check_detail(action: AuditAction, detail: Mapping[str, object]) -> None:
    """Passes details that an event of this kind may carry.

    Raises:
        ValueError: a name is not in the table, or a value has no canonical form.
    """
    kind = KINDS[action]
    for name, value in detail.items():
        if name not in kind.details:
            raise ValueError(f"an event {action.value} has no detail {name}")
        values = value if isinstance(value, list | tuple) else [value]
        if not all(item is None or isinstance(item, str | int) for item in values):
            raise ValueError(f"the detail {name} of {action.value} is neither text nor integer")
