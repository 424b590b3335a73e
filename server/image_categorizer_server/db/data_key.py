"""Data keys, each encrypted by a key-encryption key."""

from collections.abc import Sequence
from datetime import datetime
from typing import cast

from image_categorizer_server.db import legal_hold
from image_categorizer_server.db.audit import record_event
from image_categorizer_server.db.database import Connection, Row, connected, transaction
from image_categorizer_server.domain.audit import AuditAction
from image_categorizer_server.domain.data_key import WrappedKey

COLUMNS = "data_key_id, tenant_id, subject_id, kek_id, wrapped"


async def find_of_tenant(tenant_id: str, subject_id: str) -> WrappedKey | None:
    """Returns the key that encrypts what a tenant stores about a subject; None if there is none.

    Raises:
        DependencyDown: the database does not answer.
    """
    query = f"SELECT {COLUMNS} FROM data_keys WHERE tenant_id = $1 AND subject_id = $2"  # noqa: S608 - our own words
    async with connected() as connection:
        row = await connection.fetchrow(query, tenant_id, subject_id)
    return _key(row) if row else None


async def find(tenant_id: str, data_key_id: str) -> WrappedKey | None:
    """Returns a key of a tenant; None if it never had it, or it was erased.

    Raises:
        DependencyDown: the database does not answer.
    """
    query = f"SELECT {COLUMNS} FROM data_keys WHERE tenant_id = $1 AND data_key_id = $2"  # noqa: S608 - our own words
    async with connected() as connection:
        row = await connection.fetchrow(query, tenant_id, data_key_id)
    return _key(row) if row else None


async def insert_if_first(key: WrappedKey, now: datetime) -> None:
    """Stores a key, unless its tenant and subject have one.

    Raises:
        DependencyDown: the database does not answer.
    """
    statement = f"""
        INSERT INTO data_keys ({COLUMNS}, create_time) VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (tenant_id, subject_id) DO NOTHING RETURNING data_key_id
    """  # noqa: S608 - our own words
    values = key.data_key_id, key.tenant_id, key.subject_id, key.kek_id, key.wrapped, now
    async with transaction() as connection:
        if await connection.fetchval(statement, *values) is not None:
            await _record(connection, AuditAction.DATA_KEY_CREATED, key, now)


async def others(kek_id: str) -> list[WrappedKey]:
    """Returns the keys of all tenants that another key-encryption key encrypts.

    Raises:
        DependencyDown: the database does not answer.
    """
    query = f"SELECT {COLUMNS} FROM data_keys WHERE kek_id <> $1 ORDER BY data_key_id"  # noqa: S608 - our own words
    async with connected() as connection:
        rows: Sequence[Row] = await connection.fetch(query, kek_id)
    return [_key(row) for row in rows]


async def replace_wrapped(old: WrappedKey, new: WrappedKey, now: datetime) -> bool:
    """Stores a key as another key-encryption key encrypts it; returns False if it has changed.

    Raises:
        DependencyDown: the database does not answer.
    """
    statement = """
        UPDATE data_keys SET kek_id = $3, wrapped = $4
        WHERE data_key_id = $1 AND kek_id = $2 RETURNING data_key_id
    """
    values = old.data_key_id, old.kek_id, new.kek_id, new.wrapped
    async with transaction() as connection:
        if await connection.fetchval(statement, *values) is None:
            return False
        await _record(connection, AuditAction.DATA_KEY_REWRAP, new, now)
        return True


async def erase(tenant_id: str, now: datetime) -> int:
    """Deletes the keys of a tenant: what they encrypted is lost. Returns how many there were.

    Raises:
        LegallyHeld: something of the tenant is held.
        DependencyDown: the database does not answer.
    """
    statement = f"DELETE FROM data_keys WHERE tenant_id = $1 RETURNING {COLUMNS}"  # noqa: S608 - our own words
    async with transaction() as connection:
        await legal_hold.refuse_any_held(connection, tenant_id)
        erased = [_key(row) for row in await connection.fetch(statement, tenant_id)]
        for key in erased:
            await _record(connection, AuditAction.DATA_KEY_ERASE, key, now)
    return len(erased)


async def _record(
    connection: Connection, action: AuditAction, key: WrappedKey, now: datetime
) -> None:
    await record_event(connection, key.tenant_id, action, key.data_key_id, now, kek_id=key.kek_id)


def _key(row: Row) -> WrappedKey:
    return WrappedKey(
        data_key_id=cast("str", row["data_key_id"]),
        tenant_id=cast("str", row["tenant_id"]),
        subject_id=cast("str", row["subject_id"]),
        kek_id=cast("str", row["kek_id"]),
        wrapped=bytes(cast("bytes", row["wrapped"])),
    )
