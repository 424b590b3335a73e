"""The tables. Every one carries `tenant_id`."""

from tortoise import fields
from tortoise.indexes import Index, PartialIndex
from tortoise.models import Model


class ApiKeyRow(Model):
    """An API key; the secret itself is not kept, only its SHA-256."""

    id = fields.CharField(max_length=32, primary_key=True)
    tenant_id = fields.CharField(max_length=64)
    name = fields.CharField(max_length=128)
    role = fields.CharField(max_length=16)
    prefix = fields.CharField(max_length=16)
    secret_sha256 = fields.CharField(max_length=64, unique=True)
    create_time = fields.DatetimeField(auto_now_add=True)
    expire_time = fields.DatetimeField(null=True)
    revoke_time = fields.DatetimeField(null=True)

    class Meta:
        """The table."""

        table = "api_keys"
        indexes = (Index(fields=("tenant_id", "create_time")),)


class WebhookRow(Model):
    """An address that is told when a batch ends, and what its messages are signed with."""

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
        """The table."""

        table = "webhooks"
        unique_together = (("tenant_id", "webhook_id"),)


class WebhookDeliveryRow(Model):
    """One message to one webhook, and the attempts at it."""

    id = fields.BigIntField(primary_key=True)
    delivery_id = fields.CharField(max_length=40, unique=True)
    tenant_id = fields.CharField(max_length=64)
    webhook_id = fields.CharField(max_length=40)
    target = fields.CharField(max_length=40)  # what is dead or alive: a webhook, or a batch's URL
    url = fields.TextField()  # a batch's own; empty: the webhook's
    event_type = fields.CharField(max_length=32)
    batch_id = fields.CharField(max_length=64)
    body = fields.TextField()
    state = fields.CharField(max_length=16)
    is_under_way = fields.BooleanField()
    next_attempt_time = fields.DatetimeField(null=True)  # of one under way: when its lease ends
    lease_token = fields.BigIntField()
    attempt_count = fields.IntField()
    attempts: fields.Field[list[dict[str, object]]] = fields.JSONField()  # the newest first
    create_time = fields.DatetimeField()
    end_time = fields.DatetimeField(null=True)

    class Meta:
        """The table."""

        table = "webhook_deliveries"
        indexes = (
            PartialIndex(fields=("next_attempt_time",), condition={"state": "PENDING"}),
            PartialIndex(
                fields=("target", "next_attempt_time", "id"), condition={"state": "PENDING"}
            ),
            PartialIndex(fields=("target", "attempt_count"), condition={"state": "PENDING"}),
            PartialIndex(fields=("target",), condition={"is_under_way": True}),
            Index(fields=("tenant_id", "webhook_id", "id")),
            Index(fields=("end_time",)),
        )
