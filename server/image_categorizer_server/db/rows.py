"""The tables. Every one carries `tenant_id`."""

from tortoise import fields
from tortoise.indexes import Index
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
