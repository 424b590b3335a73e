"""Queries about API keys."""

from datetime import datetime

from image_categorizer_server.db.database import faults_as_ours
from image_categorizer_server.db.tables import ApiKeyRow
from image_categorizer_server.domain.access import ApiKey, Role


async def insert_key(key: ApiKey, secret_sha256: str) -> None:
    """Stores a new key."""
    async with faults_as_ours():
        await ApiKeyRow.create(
            id=key.key_id,
            tenant_id=key.tenant_id,
            name=key.name,
            role=key.role.name.lower(),
            prefix=key.prefix,
            secret_sha256=secret_sha256,
            create_time=key.create_time,
            expire_time=key.expire_time,
        )


async def find_key(secret_sha256: str) -> ApiKey | None:
    """Returns the key with this secret, revoked and expired ones too."""
    async with faults_as_ours():
        row = await ApiKeyRow.get_or_none(secret_sha256=secret_sha256)
    return _key(row) if row else None


async def list_keys(tenant_id: str) -> list[ApiKey]:
    """Returns the tenant's keys, the oldest first."""
    async with faults_as_ours():
        rows = await ApiKeyRow.filter(tenant_id=tenant_id).order_by("create_time", "id")
    return [_key(row) for row in rows]


async def revoke_key(tenant_id: str, key_id: str, moment: datetime) -> bool:
    """Marks the key as revoked; returns whether it existed and was not revoked before."""
    async with faults_as_ours():
        changed = await ApiKeyRow.filter(tenant_id=tenant_id, id=key_id, revoke_time=None).update(
            revoke_time=moment
        )
    return changed == 1


def _key(row: ApiKeyRow) -> ApiKey:
    return ApiKey(
        key_id=row.id,
        tenant_id=row.tenant_id,
        name=row.name,
        role=Role[row.role.upper()],
        prefix=row.prefix,
        create_time=row.create_time,
        expire_time=row.expire_time,
        revoke_time=row.revoke_time,
    )
