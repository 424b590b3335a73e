"""Tenants: created, suspended, resumed and deleted by operators of the platform."""

from collections.abc import Mapping

from image_categorizer_server import clock
from image_categorizer_server.db import tenant as rows
from image_categorizer_server.domain.access import DEFAULT_TENANT
from image_categorizer_server.domain.limit import Limits
from image_categorizer_server.domain.tenant import TENANT_ID, Tenant, TenantState
from image_categorizer_server.errors import InvalidRequest, TenantExists, TenantNotFound
from image_categorizer_server.paging import Page, limit_of, page_from, text_of, token_of
from image_categorizer_server.quoting import quoted

MAX_DISPLAY_NAME_CHARACTERS = 128


async def create_tenant(tenant_id: str, display_name: str = "") -> Tenant:
    """Creates a tenant.  Not idempotent.

    Raises:
        InvalidRequest: `tenant_id` or `display_name` is malformed.
        TenantExists: the name is taken, also by a tenant that is not removed yet.
        DependencyDown: the database does not answer.
    """
    wrong: list[tuple[str, str]] = []
    if not TENANT_ID.fullmatch(tenant_id):
        text = (
            "must be 1 to 64 lower-case letters, digits, '-' and '_', not starting with '-' or '_'"
        )
        wrong.append(("tenant_id", text))
    _check_name(display_name, wrong)
    if wrong:
        raise InvalidRequest.of(wrong)
    tenant = Tenant(tenant_id, display_name, TenantState.ACTIVE, clock.now(), None)
    if not await rows.insert_tenant(tenant):
        raise TenantExists(f"there is a tenant '{tenant_id}', or it is still being removed")
    return tenant


async def get_tenant(tenant_id: str) -> Tenant:
    """Returns a tenant, also while it is being removed.

    Raises:
        TenantNotFound: there is no such tenant.
        DependencyDown: the database does not answer.
    """
    return _found(tenant_id, await rows.find_tenant(tenant_id))


async def list_tenants(page_size: int = 0, page_token: str = "") -> Page[Tenant]:
    """Returns a page of the tenants, by name.

    Args:
        page_size: see `paging.limit_of`.
        page_token: the token of the previous page; empty for the first page.

    Raises:
        InvalidRequest: `page_size` or `page_token` is not valid.
        DependencyDown: the database does not answer.
    """
    limit, after = limit_of(page_size), text_of(page_token)
    found = await rows.list_tenants(after or "", limit + 1)
    return page_from(found, limit, lambda tenant: token_of(tenant.tenant_id))


async def update_tenant(
    tenant_id: str,
    display_name: str | None = None,
    limits: Mapping[str, object] | None = None,
) -> Tenant:
    """Changes the arguments that are not None.

    Args:
        tenant_id: the tenant.
        display_name: the new name for people.
        limits: all limits that the tenant has instead of those of the settings, by the names of
            `domain.limit.Limits`.

    Raises:
        InvalidRequest: the name or a limit is not valid.
        TenantNotFound: there is no such tenant, or it is being deleted.
        DependencyDown: the database does not answer.
    """
    wrong: list[tuple[str, str]] = []
    if display_name is not None:
        _check_name(display_name, wrong)
    try:
        Limits().overridden(limits or {})
    except ValueError as error:
        wrong.append(("limits", str(error)))
    if wrong:
        raise InvalidRequest.of(wrong)
    changed = await rows.update_tenant(tenant_id, clock.now(), display_name, limits)
    return _found(tenant_id, changed)


async def suspend_tenant(tenant_id: str, own_tenant_id: str = "") -> Tenant:
    """Refuses the credentials of a tenant within seconds, and lets its batches wait.  Idempotent.

    Args:
        tenant_id: the tenant.
        own_tenant_id: the caller's, which it may not suspend; empty if it has none.

    Raises:
        InvalidRequest: the tenant is `default`, or the caller's own.
        TenantNotFound: there is no such tenant, or it is being deleted.
        DependencyDown: the database does not answer.
    """
    _refuse_indispensable(tenant_id, own_tenant_id)
    return await _put(tenant_id, TenantState.SUSPENDED)


async def resume_tenant(tenant_id: str) -> Tenant:
    """Accepts the credentials of a suspended tenant again; its batches go on.  Idempotent.

    Raises:
        TenantNotFound: there is no such tenant, or it is being deleted.
        DependencyDown: the database does not answer.
    """
    return await _put(tenant_id, TenantState.ACTIVE)


async def delete_tenant(tenant_id: str, own_tenant_id: str = "") -> Tenant:
    """Refuses the credentials of a tenant within seconds; sweeps remove all that it has.

    Idempotent until the removal has finished.  It cannot be undone.

    Args:
        tenant_id: the tenant.
        own_tenant_id: the caller's, which it may not delete; empty if it has none.

    Raises:
        InvalidRequest: the tenant is `default`, or the caller's own.
        TenantNotFound: there is no such tenant.
        DependencyDown: the database does not answer.
    """
    _refuse_indispensable(tenant_id, own_tenant_id)
    deleted = await rows.change_state(tenant_id, TenantState.DELETING, clock.now())
    return _found(tenant_id, deleted)


def _check_name(display_name: str, wrong: list[tuple[str, str]]) -> None:
    if len(display_name) > MAX_DISPLAY_NAME_CHARACTERS or "\0" in display_name:
        text = f"must have at most {MAX_DISPLAY_NAME_CHARACTERS} characters, none of them NUL"
        wrong.append(("display_name", text))


async def _put(tenant_id: str, state: TenantState) -> Tenant:
    tenant = _found(tenant_id, await rows.change_state(tenant_id, state, clock.now()))
    if tenant.state is TenantState.DELETING:
        raise TenantNotFound(f"the tenant {quoted(tenant_id)} is being deleted")
    return tenant


def _found(tenant_id: str, tenant: Tenant | None) -> Tenant:
    if tenant is None:
        raise TenantNotFound(f"there is no tenant {quoted(tenant_id)}")
    return tenant


def _refuse_indispensable(tenant_id: str, own_tenant_id: str) -> None:
    if tenant_id == DEFAULT_TENANT:  # the workers have its key
        raise InvalidRequest.of([("tenant_id", "the tenant 'default' must remain")])
    if tenant_id == own_tenant_id:
        raise InvalidRequest.of([("tenant_id", "is the tenant of these credentials")])
