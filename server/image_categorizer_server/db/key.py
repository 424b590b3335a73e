"""API keys."""

from datetime import datetime

from image_categorizer_server.db.database import translated_faults
from image_categorizer_server.db.tables import ApiKeyRow
from image_categorizer_server.domain.access import ApiKey, Role


async def insert_key(key: ApiKey, secret_sha256: str) -> None:
    """Stores a new key.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with translated_faults():
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
    """Returns the key with this secret, even if it is revoked or expired; None if there is none.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with translated_faults():
        row = await ApiKeyRow.get_or_none(secret_sha256=secret_sha256)
    return _key(row) if row else None


async def list_keys(tenant_id: str) -> list[ApiKey]:
    """Returns the tenant's keys, the oldest first.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with translated_faults():
        rows = await ApiKeyRow.filter(tenant_id=tenant_id).order_by("create_time", "id")
    return [_key(row) for row in rows]


async def revoke_key(tenant_id: str, key_id: str, now: datetime) -> bool:
    """Revokes a key; returns False if it does not exist or was revoked before.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with translated_faults():
        changed = await ApiKeyRow.filter(tenant_id=tenant_id, id=key_id, revoke_time=None).update(
            revoke_time=now
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
