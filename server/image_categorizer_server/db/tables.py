"""The tables.  Each has the column `tenant_id`.

Tortoise writes the migrations of the tables that have a `Model` here, and reads some of them.  The
other tables are read and written in SQL, and stand in the migrations; their rows have types at the
end of this file.
"""

from datetime import datetime
from typing import TypedDict

from tortoise import fields
from tortoise.contrib.postgres.fields import ArrayField
from tortoise.indexes import Index, PartialIndex
from tortoise.models import Model


class ApiKeyRow(Model):
    """An API key; of its secrets only the SHA-256 is kept."""

    id = fields.CharField(max_length=32, primary_key=True)
    tenant_id = fields.CharField(max_length=64)
    name = fields.CharField(max_length=128)
    role = fields.CharField(max_length=16)
    prefix = fields.CharField(max_length=16)
    secret_sha256 = fields.CharField(max_length=64, unique=True)
    create_time = fields.DatetimeField(auto_now_add=True)
    expire_time = fields.DatetimeField(null=True)
    revoke_time = fields.DatetimeField(null=True)
    scopes: fields.Field[list[str]] = ArrayField("text", db_default=[])
    allowed_addresses: fields.Field[list[str]] = ArrayField("text", db_default=[])
    created_by = fields.TextField(db_default="")
    last_use_time = fields.DatetimeField(null=True)
    previous_secret_sha256 = fields.CharField(max_length=64, unique=True, null=True)
    previous_secret_expire_time = fields.DatetimeField(null=True)

    class Meta:
        table = "api_keys"
        indexes = (Index(fields=("tenant_id", "create_time")),)


class WebhookRow(Model):
    """An address that is notified when a batch ends, and the secrets that sign its messages."""

    id = fields.BigIntField(primary_key=True)
    tenant_id = fields.CharField(max_length=64)
    webhook_id = fields.CharField(max_length=40)
    url = fields.TextField()
    state = fields.CharField(max_length=16)
    secret = fields.CharField(max_length=128)
    previous_secret = fields.CharField(max_length=128, null=True)
    previous_secret_expire_time = fields.DatetimeField(null=True)
    create_time = fields.DatetimeField()

    class Meta:
        table = "webhooks"
        unique_together = (("tenant_id", "webhook_id"),)


class WebhookDeliveryRow(Model):
    """One message to one webhook, and the attempts to send it."""

    id = fields.BigIntField(primary_key=True)
    delivery_id = fields.CharField(max_length=40, unique=True)
    tenant_id = fields.CharField(max_length=64)
    webhook_id = fields.CharField(max_length=40)
    target = fields.CharField(max_length=40)  # a receiver: a webhook, or the hash of a batch's URL
    url = fields.TextField()  # of the batch; empty: the webhook's URL
    event_type = fields.CharField(max_length=32)
    batch_id = fields.CharField(max_length=64)
    body = fields.TextField()
    state = fields.CharField(max_length=16)
    is_under_way = fields.BooleanField()
    next_attempt_time = fields.DatetimeField(null=True)  # while under way: the lease's end
    lease_token = fields.BigIntField()
    attempt_count = fields.IntField()
    attempts: fields.Field[list[dict[str, object]]] = fields.JSONField()  # newest first
    create_time = fields.DatetimeField()
    end_time = fields.DatetimeField(null=True)
    subject_key = fields.CharField(max_length=32, db_default="")
    traceparent = fields.CharField(max_length=55, db_default="")

    class Meta:
        table = "webhook_deliveries"
        indexes = (
            PartialIndex(fields=("next_attempt_time",), condition={"state": "PENDING"}),
            PartialIndex(
                fields=("target", "next_attempt_time", "id"), condition={"state": "PENDING"}
            ),
            PartialIndex(fields=("target", "attempt_count"), condition={"state": "PENDING"}),
            PartialIndex(fields=("target",), condition={"is_under_way": True}),
            Index(fields=("tenant_id", "webhook_id", "id")),
            Index(fields=("tenant_id", "end_time")),
        )


class TenantRow(TypedDict):
    """A row of `tenants`."""

    tenant_id: str
    display_name: str
    state: str
    create_time: datetime
    delete_time: datetime | None
    limits: str  # JSON: overrides of the settings


class KeyRow(TypedDict):
    """A row of `api_keys`, without the secrets."""

    id: str
    tenant_id: str
    name: str
    role: str
    prefix: str
    create_time: datetime
    created_by: str
    scopes: list[str]
    allowed_addresses: list[str]
    expire_time: datetime | None
    revoke_time: datetime | None
    last_use_time: datetime | None
    previous_secret_expire_time: datetime | None


class BatchRow(TypedDict):
    """A row of `batches`."""

    batch_id: str
    tenant_id: str
    state: str
    state_message: str
    options: str  # JSON
    webhook_url: str
    priority: int
    request_id: str | None
    request_sha256: str | None
    item_count: int
    succeeded_count: int
    failed_count: int
    ignored_count: int
    run_count: int
    created_by: str
    create_time: datetime
    start_time: datetime | None
    end_time: datetime | None
    expire_time: datetime | None
    # How many items were done at two earlier moments, to measure the rate from.
    mark_time: datetime | None
    mark_count: int
    last_mark_time: datetime | None
    last_mark_count: int
    image_bytes: int
    subject_key: str
    traceparent: str


class ItemRow(TypedDict):
    """A row of `batch_items`, without its batch and its error."""

    number: int
    filename: str
    object_key: str | None
    image_uri: str | None
    size_bytes: int | None
    blur: list[str]


class ChunkRow(TypedDict):
    """A row of `batch_chunks`."""

    batch_id: str
    number: int
    tenant_id: str
    priority: int
    first_item: int
    item_count: int
    done_count: int
    state: str
    lease_token: int
    lease_until: datetime | None
    worker: str
    worker_crashes: int
    is_isolated: bool
    available_at: datetime
    server_crashes: str  # JSON: how often the server crashed, by item


class ResultRow(TypedDict):
    """A row of `batch_results`, with the item's filename."""

    batch_id: str
    number: int
    tenant_id: str
    status: str
    reason: str
    message: str
    predictions: str | None  # JSON
    model_name: str
    model_version: int
    model_digest: str
    warnings: list[str]
    sealed: bytes | None  # the predictions, encrypted
    create_time: datetime
    filename: str


class OutboxTableRow(TypedDict):
    """A row of `outbox`."""

    outbox_id: int
    tenant_id: str
    kind: str
    batch_id: str
    payload: str  # JSON
    create_time: datetime
    take_after: datetime
    done_time: datetime | None
    subject_key: str
    traceparent: str


class ErasureRow(TypedDict):
    """A row of `erasures`."""

    tenant_id: str
    erasure_id: str
    subject_key: str
    state: str
    step: str
    counts: str  # JSON
    certificate: str
    create_time: datetime
    end_time: datetime | None
    allow_time: datetime | None


class AuditEventRow(TypedDict):
    """A row of `audit_events`."""

    tenant_id: str
    seq: int
    create_time: datetime
    actor_id: str
    action: str
    resource: str
    outcome: str
    address: str
    request_id: str
    detail: str  # JSON
    prev_hash: str
    hash: str


class SessionRow(TypedDict):
    """A row of `sessions`, without its secret."""

    tenant_id: str
    actor_id: str
    role: str
    scopes: list[str]
    use_time: datetime
    expire_time: datetime
    end_time: datetime | None
