"""API keys: created, listed, revoked by administrators."""

from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from image_categorizer_server import clock
from image_categorizer_server.access.api_key import PREFIX, new_key, sha256_of
from image_categorizer_server.db import key as rows
from image_categorizer_server.db.tenant import find_state
from image_categorizer_server.domain.access import DEFAULT_TENANT, ApiKey, Role
from image_categorizer_server.domain.tenant import TenantState
from image_categorizer_server.errors import OperatorError, TenantNotFound

SHOWN_CHARACTERS = 5


@dataclass(frozen=True, slots=True)
class NewKey:
    """A new key, with its secret, which is not stored."""

    secret: str
    key: ApiKey


async def create_key(
    name: str,
    role: Role,
    expire_time: datetime | None = None,
    tenant_id: str = DEFAULT_TENANT,
) -> NewKey:
    """Creates an API key.  Not idempotent.

    Raises:
        TenantNotFound: there is no such tenant, or it is being deleted.
        DependencyDown: the database does not answer.
    """
    if await find_state(tenant_id) in (None, TenantState.DELETING):
        raise TenantNotFound(f"there is no tenant {tenant_id!r}")
    secret = new_key()
    key = ApiKey(
        key_id=uuid4().hex,
        tenant_id=tenant_id,
        name=name,
        role=role,
        prefix=secret[: len(PREFIX) + SHOWN_CHARACTERS],
        create_time=clock.now(),
        expire_time=expire_time,
        revoke_time=None,
    )
    await rows.insert_key(key, sha256_of(secret))
    return NewKey(secret, key)


async def list_keys(tenant_id: str = DEFAULT_TENANT) -> list[ApiKey]:
    """Returns all keys of a tenant, the oldest first, without their secrets.

    Raises:
        DependencyDown: the database does not answer.
    """
    return await rows.list_keys(tenant_id)


async def revoke_key(key_id: str, tenant_id: str = DEFAULT_TENANT) -> None:
    """Revokes a key; servers that have cached it follow within seconds.

    Raises:
        OperatorError: the key does not exist, or was revoked before.
        DependencyDown: the database does not answer.
    """
    if not await rows.revoke_key(tenant_id, key_id, clock.now()):
        raise OperatorError(
            f"No valid key has the id {key_id}; `image-categorizer keys list` shows all."
        )
