"""API keys."""

from collections.abc import Callable, Mapping
from datetime import datetime
from ipaddress import ip_network
from typing import cast

from image_categorizer_server.db import audit
from image_categorizer_server.db.access_changes import notify_key
from image_categorizer_server.db.database import (
    Connection,
    Row,
    connected,
    transaction,
)
from image_categorizer_server.db.locks import lock_key_quota
from image_categorizer_server.db.tables import KeyRow
from image_categorizer_server.domain.access import Role, Scope
from image_categorizer_server.domain.audit import AuditAction
from image_categorizer_server.domain.key import ApiKey, FoundKey, KeyState
from image_categorizer_server.domain.tenant import all_tenants

INSERT = """
INSERT INTO api_keys (id, tenant_id, name, role, prefix, create_time, created_by, scopes,
    allowed_addresses, expire_time, secret_sha256)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
"""
STATE = """
CASE WHEN revoke_time IS NOT NULL THEN 'REVOKED' WHEN expire_time <= $2 THEN 'EXPIRED'
    ELSE 'ACTIVE' END
"""
COUNT_ACTIVE = f"""
SELECT count(*) FROM api_keys
WHERE tenant_id = $1 AND ($3::text IS NULL OR role = $3) AND {STATE} = 'ACTIVE'
"""  # noqa: S608 - constants
FIND = """
SELECT *, secret_sha256 <> $1 AS is_previous FROM api_keys
WHERE secret_sha256 = $1 OR previous_secret_sha256 = $1
"""
GET = "SELECT * FROM api_keys WHERE tenant_id = $1 AND id = $2"
LIST = f"""
SELECT * FROM api_keys
WHERE tenant_id = $1 AND ($3::text IS NULL OR {STATE} = $3)
    AND ($4::timestamptz IS NULL OR (create_time, id) > ($4, $5))
ORDER BY create_time, id LIMIT $6
"""  # noqa: S608 - constants
UPDATE = """
UPDATE api_keys SET name = $3, role = $4, scopes = $5, allowed_addresses = $6, expire_time = $7,
    revoke_time = $8
WHERE tenant_id = $1 AND id = $2
"""
# The secret in force becomes the previous one, if it is to be accepted for some time.  The one
# before that ends at once.
ROTATE = """
UPDATE api_keys SET prefix = $3,
    previous_secret_sha256 = CASE WHEN $4::timestamptz IS NOT NULL THEN secret_sha256 END,
    previous_secret_expire_time = $4, secret_sha256 = $5
WHERE tenant_id = $1 AND id = $2
"""
# In order, and without the rows that another server writes at this moment: no deadlock, no wait.
NOTE_USES = """
WITH due AS (
    SELECT k.id, used.time FROM api_keys k
    JOIN unnest($1::text[], $2::timestamptz[]) AS used (id, time) ON k.id = used.id
    WHERE k.last_use_time IS NULL OR k.last_use_time <= used.time - interval '1 minute'
    ORDER BY k.id FOR NO KEY UPDATE OF k SKIP LOCKED
)
UPDATE api_keys SET last_use_time = due.time FROM due WHERE api_keys.id = due.id
"""


async def insert_key(key: ApiKey, secret_sha256: str, quota: int) -> bool:
    """Stores a new key; returns False if the tenant has `quota` active keys already.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        await lock_key_quota(connection, key.tenant_id)
        if await _count_active(connection, key.tenant_id, key.create_time) >= quota:
            return False
        await connection.execute(
            INSERT,
            key.key_id,
            key.tenant_id,
            key.name,
            key.role.name.lower(),
            key.prefix,
            key.create_time,
            key.created_by,
            _scopes(key),
            _addresses(key),
            key.expire_time,
            secret_sha256,
        )
        await audit.record_event(
            connection,
            key.tenant_id,
            AuditAction.KEY_CREATE,
            key.key_id,
            key.create_time,
            **_rights(key),
        )
    return True


async def find_key(secret_sha256: str) -> FoundKey | None:
    """Returns the key with this secret, even if it is no longer valid; None if there is none.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        row = await connection.fetchrow(FIND, secret_sha256)
    return FoundKey(_key(row), bool(row["is_previous"])) if row else None


async def get_key(tenant_id: str, key_id: str) -> ApiKey | None:
    """Returns a key of the tenant; None if there is none.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        row = await connection.fetchrow(GET, tenant_id, key_id)
    return _key(row) if row else None


async def list_keys(
    tenant_id: str,
    now: datetime,
    limit: int,
    *,
    state: KeyState | None = None,
    after: tuple[datetime, str] | None = None,
) -> list[ApiKey]:
    """Returns keys of the tenant, the oldest first.

    Args:
        tenant_id: the tenant.
        now: the current time.
        limit: how many at most.
        state: only keys in this state; None for all.
        after: time of creation and id of the key before; None to begin with the oldest.

    Raises:
        DependencyDown: the database does not answer.
    """
    time, key_id = after or (None, "")
    async with connected() as connection:
        rows = await connection.fetch(
            LIST, tenant_id, now, state.value if state else None, time, key_id, limit
        )
    return [_key(row) for row in rows]


async def has_active_key(tenant_id: str, role: Role, now: datetime) -> bool:
    """Returns whether the tenant has an active key of a role.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        return await _count_active(connection, tenant_id, now, role.name.lower()) > 0


async def change_key(
    tenant_id: str,
    key_id: str,
    now: datetime,
    action: AuditAction,
    change: Callable[[ApiKey], ApiKey],
) -> ApiKey | None:
    """Changes a key, and returns it as it is then; None if there is none.

    Args:
        tenant_id: the tenant that owns the key.
        key_id: the key.
        now: the current time.
        action: for the audit.
        change: gets the key, locked, and returns what it shall be; the same if nothing is to
            change.  An error that it raises stops the change.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        key = await _locked(connection, tenant_id, key_id)
        if key is None:
            return None
        changed = change(key)
        if changed == key:
            return key
        await connection.execute(
            UPDATE,
            tenant_id,
            key_id,
            changed.name,
            changed.role.name.lower(),
            _scopes(changed),
            _addresses(changed),
            changed.expire_time,
            changed.revoke_time,
        )
        await audit.record_event(connection, tenant_id, action, key_id, now, **_rights(changed))
        await notify_key(connection, key_id)
    return changed


async def rotate_key(
    tenant_id: str,
    key_id: str,
    now: datetime,
    secret_sha256: str,
    change: Callable[[ApiKey], ApiKey],
) -> ApiKey | None:
    """Puts a new secret in force, and returns the key as it is then; None if there is none.

    Args:
        tenant_id: the tenant that owns the key.
        key_id: the key.
        now: the current time.
        secret_sha256: of the new secret.
        change: gets the key, locked, and returns it with the new `prefix` and
            `previous_secret_expire_time`; None there ends the secret of now at once.  An error that
            it raises stops the rotation.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        key = await _locked(connection, tenant_id, key_id)
        if key is None:
            return None
        changed = change(key)
        end = changed.previous_secret_expire_time
        await connection.execute(ROTATE, tenant_id, key_id, changed.prefix, end, secret_sha256)
        await audit.record_event(connection, tenant_id, AuditAction.KEY_ROTATE, key_id, now)
        await notify_key(connection, key_id)
    return changed


async def note_uses(uses: Mapping[str, datetime]) -> None:
    """Stores the last use of keys, by id; for each key at most once a minute.

    Raises:
        DependencyDown: the database does not answer.
    """
    with all_tenants():
        async with connected() as connection:
            await connection.execute(NOTE_USES, list(uses), list(uses.values()))


async def _count_active(
    connection: Connection, tenant_id: str, now: datetime, role: str | None = None
) -> int:
    return cast("int", await connection.fetchval(COUNT_ACTIVE, tenant_id, now, role))


async def _locked(connection: Connection, tenant_id: str, key_id: str) -> ApiKey | None:
    row = await connection.fetchrow(f"{GET} FOR NO KEY UPDATE", tenant_id, key_id)
    return _key(row) if row else None


def _scopes(key: ApiKey) -> list[str]:
    return sorted(scope.value for scope in key.scopes)


def _addresses(key: ApiKey) -> list[str]:
    return list(map(str, key.allowed_addresses))


def _rights(key: ApiKey) -> dict[str, object]:
    """Returns what the audit says about a key."""
    end = key.expire_time
    return {
        "role": key.role.name.lower(),
        "scopes": _scopes(key),
        "allowed_addresses": _addresses(key),
        "expire_time": end.isoformat() if end else None,
    }


def _key(found: Row) -> ApiKey:
    row = cast("KeyRow", found)
    return ApiKey(
        key_id=row["id"],
        tenant_id=row["tenant_id"],
        name=row["name"],
        role=Role[row["role"].upper()],
        prefix=row["prefix"],
        create_time=row["create_time"],
        created_by=row["created_by"],
        scopes=frozenset(map(Scope, row["scopes"])),
        allowed_addresses=tuple(map(ip_network, row["allowed_addresses"])),
        expire_time=row["expire_time"],
        revoke_time=row["revoke_time"],
        last_use_time=row["last_use_time"],
        previous_secret_expire_time=row["previous_secret_expire_time"],
    )
