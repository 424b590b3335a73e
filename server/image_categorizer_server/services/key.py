"""API keys: created, changed, rotated and revoked."""

import secrets
from dataclasses import replace
from datetime import datetime, timedelta

from image_categorizer_server import clock
from image_categorizer_server.access.api_key import PREFIX, new_key, sha256_of
from image_categorizer_server.access.roles import authorize_grant, authorize_role
from image_categorizer_server.db import key as rows
from image_categorizer_server.db.tenant import find_state
from image_categorizer_server.domain.access import DEFAULT_TENANT, Principal, Role
from image_categorizer_server.domain.audit import AuditAction
from image_categorizer_server.domain.key import ApiKey, KeyChanges, KeySpec, KeyState, NewKey
from image_categorizer_server.domain.tenant import TenantState
from image_categorizer_server.errors import (
    FailedPrecondition,
    InvalidRequest,
    KeyNotFound,
    QuotaExceeded,
    TenantNotFound,
)
from image_categorizer_server.paging import (
    Page,
    limit_of,
    moment_and_text_of,
    page_from,
    token_of_moment,
)
from image_categorizer_server.settings.access import SecuritySettings

SHOWN_CHARACTERS = 5
ID_BYTES = 16
MAX_NAME_CHARACTERS = 128
MAX_ADDRESSES = 100
MAX_OVERLAP = timedelta(days=30)


def operator(tenant_id: str = DEFAULT_TENANT) -> Principal:
    """Returns who acts on the command line, and who may do everything, for a tenant."""
    return Principal("", tenant_id, Role.PLATFORM)


class ApiKeys:
    """What callers can do with API keys.  Each sees and changes only those of its own tenant."""

    def __init__(self, settings: SecuritySettings) -> None:
        self._settings = settings

    async def create(self, caller: Principal, spec: KeySpec) -> NewKey:
        """Creates an API key.  Not idempotent.

        Raises:
            InvalidRequest: the name, the addresses or the time are not valid.
            RoleInsufficient: the key would be able to do more than the caller.
            TenantNotFound: there is no such tenant, or it is being deleted.
            QuotaExceeded: the tenant has its maximum number of active keys.
            DependencyDown: the database does not answer.
        """
        authorize_grant(caller, spec.role, spec.scopes)
        if await find_state(caller.tenant_id) in (None, TenantState.DELETING):
            raise TenantNotFound(f"there is no tenant {caller.tenant_id!r}")
        secret, now = new_key(), clock.now()
        key = ApiKey(
            key_id=secrets.token_hex(ID_BYTES),
            tenant_id=caller.tenant_id,
            name=spec.name,
            role=spec.role,
            prefix=_prefix(secret),
            create_time=now,
            created_by=caller.actor_id,
            scopes=spec.scopes,
            allowed_addresses=spec.allowed_addresses,
            expire_time=spec.expire_time,
        )
        _check(key, now)
        quota = self._settings.max_keys
        if not await rows.insert_key(key, sha256_of(secret), quota):
            raise QuotaExceeded(f"there are {quota} active API keys already; revoke one first")
        return NewKey(secret, key)

    async def get(self, tenant_id: str, key_id: str) -> ApiKey:
        """Returns a key.

        Raises:
            KeyNotFound: the tenant has no such key.
            DependencyDown: the database does not answer.
        """
        return _existing(await rows.get_key(tenant_id, key_id), key_id)

    async def list_page(
        self,
        tenant_id: str,
        state: KeyState | None = None,
        page_size: int = 0,
        page_token: str = "",
    ) -> Page[ApiKey]:
        """Returns a page of the tenant's keys, the oldest first.

        Args:
            tenant_id: the tenant.
            state: only keys in this state; None for all.
            page_size: see `paging.limit_of`.
            page_token: the token of the previous page; empty for the first page.

        Raises:
            InvalidRequest: `page_size` or `page_token` is not valid.
            DependencyDown: the database does not answer.
        """
        limit, after = limit_of(page_size), moment_and_text_of(page_token)
        found = await rows.list_keys(tenant_id, clock.now(), limit + 1, state=state, after=after)
        return page_from(found, limit, _token_after)

    async def update(self, caller: Principal, key_id: str, changes: KeyChanges) -> ApiKey:
        """Changes a key, and returns it.

        Raises:
            KeyNotFound: the tenant has no such key.
            InvalidRequest: a new value is not valid.
            RoleInsufficient: the key is, or would be, able to do more than the caller.
            FailedPrecondition: the key is revoked.
            DependencyDown: the database does not answer.
        """
        now = clock.now()

        def change(key: ApiKey) -> ApiKey:
            _check_manageable(caller, key)
            changed = replace(key, **changes)
            authorize_grant(caller, changed.role, changed.scopes)
            _check(changed, now, has_new_end="expire_time" in changes)
            return changed

        action = AuditAction.KEY_UPDATE
        return _existing(
            await rows.change_key(caller.tenant_id, key_id, now, action, change), key_id
        )

    async def rotate(
        self, caller: Principal, key_id: str, overlap: timedelta | None = None
    ) -> NewKey:
        """Gives a key a new secret.  Not idempotent.

        Args:
            caller: may do all that the key may.
            key_id: the key.
            overlap: how long the secret of now is still accepted; None for the default of the
                settings.

        Raises:
            KeyNotFound: the tenant has no such key.
            InvalidRequest: `overlap` is negative or longer than 30 days.
            RoleInsufficient: the key is able to do more than the caller.
            FailedPrecondition: the key is revoked.
            DependencyDown: the database does not answer.
        """
        if overlap is None:
            overlap = timedelta(seconds=self._settings.key_rotation_s)
        if not timedelta(0) <= overlap <= MAX_OVERLAP:
            raise InvalidRequest.of([("overlap", "must be from 0 s to 30 days")])
        secret, now = new_key(), clock.now()
        end = now + overlap if overlap else None

        def change(key: ApiKey) -> ApiKey:
            _check_manageable(caller, key)
            return replace(key, prefix=_prefix(secret), previous_secret_expire_time=end)

        rotated = await rows.rotate_key(caller.tenant_id, key_id, now, sha256_of(secret), change)
        return NewKey(secret, _existing(rotated, key_id))

    async def revoke(self, caller: Principal, key_id: str) -> ApiKey:
        """Ends a key for good, and returns it.  Idempotent.

        Raises:
            KeyNotFound: the tenant has no such key.
            RoleInsufficient: the key has a higher role than the caller.
            DependencyDown: the database does not answer.
        """
        now = clock.now()

        def change(key: ApiKey) -> ApiKey:
            # A caller with fewer scopes may: it gets no rights from it.
            authorize_role(caller, key.role)
            return key if key.revoke_time else replace(key, revoke_time=now)

        action = AuditAction.KEY_REVOKE
        return _existing(
            await rows.change_key(caller.tenant_id, key_id, now, action, change), key_id
        )


async def create_key(name: str, role: Role, tenant_id: str = DEFAULT_TENANT) -> NewKey:
    """Creates a key that the installation itself needs.  Not idempotent.

    Raises:
        QuotaExceeded: the tenant has its maximum number of active keys.
        DependencyDown: the database does not answer.
    """
    return await ApiKeys(SecuritySettings()).create(operator(tenant_id), KeySpec(name, role))


async def has_active_key(role: Role) -> bool:
    """Returns whether the default tenant has an active key of a role.

    Raises:
        DependencyDown: the database does not answer.
    """
    return await rows.has_active_key(DEFAULT_TENANT, role, clock.now())


def _prefix(secret: str) -> str:
    return secret[: len(PREFIX) + SHOWN_CHARACTERS]


def _existing(key: ApiKey | None, key_id: str) -> ApiKey:
    if key is None:
        raise KeyNotFound(f"there is no API key {key_id!r}")
    return key


def _check_manageable(caller: Principal, key: ApiKey) -> None:
    """Passes a key whose rights the caller has, and which is not revoked."""
    authorize_grant(caller, key.role, key.scopes)
    if key.revoke_time is not None:
        raise FailedPrecondition("the API key is revoked for good: create another")


def _check(key: ApiKey, now: datetime, *, has_new_end: bool = True) -> None:
    wrong: list[tuple[str, str]] = []
    if not (1 <= len(key.name) <= MAX_NAME_CHARACTERS and key.name.isprintable()):
        wrong.append(("name", f"must have 1 to {MAX_NAME_CHARACTERS} printable characters"))
    if len(key.allowed_addresses) > MAX_ADDRESSES:
        wrong.append(("allowed_addresses", f"must be at most {MAX_ADDRESSES}"))
    if has_new_end and key.expire_time is not None and key.expire_time <= now:
        wrong.append(("expire_time", "must be in the future"))
    if wrong:
        raise InvalidRequest.of(wrong)


def _token_after(key: ApiKey) -> str:
    return token_of_moment(key.create_time, key.key_id)
