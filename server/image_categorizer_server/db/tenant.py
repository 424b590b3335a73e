"""Tenants: created, suspended, deleted.  The scope of each function is that of all tenants."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import cast

from image_categorizer_server.db import audit, legal_hold
from image_categorizer_server.db.access_changes import notify_tenant
from image_categorizer_server.db.database import Connection, connected, transaction
from image_categorizer_server.db.tables import TenantRow
from image_categorizer_server.domain.access import DEFAULT_TENANT
from image_categorizer_server.domain.audit import AuditAction
from image_categorizer_server.domain.tenant import Tenant, TenantState, all_tenants

INSERT = """
INSERT INTO tenants (tenant_id, display_name, state, create_time) VALUES ($1, $2, 'ACTIVE', $3)
ON CONFLICT DO NOTHING RETURNING true
"""
LOCK = "SELECT * FROM tenants WHERE tenant_id = $1 FOR UPDATE"
CHANGE = "UPDATE tenants SET state = $2, delete_time = $3 WHERE tenant_id = $1 RETURNING *"
UPDATE = """
UPDATE tenants SET display_name = coalesce($2, display_name), limits = coalesce($3::jsonb, limits)
WHERE tenant_id = $1 AND state <> 'DELETING' RETURNING *
"""
ACTIONS = {
    TenantState.ACTIVE: AuditAction.TENANT_RESUME,
    TenantState.SUSPENDED: AuditAction.TENANT_SUSPEND,
    TenantState.DELETING: AuditAction.TENANT_DELETE,
}


async def insert_tenant(tenant: Tenant) -> bool:
    """Stores a new tenant; returns False if its name is taken.

    Raises:
        DependencyDown: the database does not answer.
    """
    with all_tenants():
        async with transaction() as connection:
            values = tenant.tenant_id, tenant.display_name, tenant.create_time
            if not await connection.fetchval(INSERT, *values):
                return False
            action = AuditAction.TENANT_CREATE
            await record_tenant_event(connection, action, tenant.tenant_id, tenant.create_time)
    return True


async def find_tenant(tenant_id: str) -> Tenant | None:
    """Returns a tenant in any state; None if it does not exist.

    Raises:
        DependencyDown: the database does not answer.
    """
    with all_tenants():
        async with connected() as connection:
            row = await connection.fetchrow("SELECT * FROM tenants WHERE tenant_id = $1", tenant_id)
    return tenant_from_row(cast("TenantRow", row)) if row else None


async def find_state(tenant_id: str) -> TenantState | None:
    """Returns the state of a tenant; None if it does not exist.

    Raises:
        DependencyDown: the database does not answer.
    """
    tenant = await find_tenant(tenant_id)
    return tenant.state if tenant else None


async def find_limits(tenant_id: str) -> Mapping[str, object]:
    """Returns the limits that a tenant has instead of those of the settings, by name.

    Raises:
        DependencyDown: the database does not answer.
    """
    with all_tenants():
        async with connected() as connection:
            limits = await connection.fetchval(
                "SELECT limits FROM tenants WHERE tenant_id = $1", tenant_id
            )
    return cast("Mapping[str, object]", json.loads(str(limits))) if limits else {}


async def list_tenants(after: str, limit: int) -> list[Tenant]:
    """Returns tenants whose name comes after `after`, by name.

    Raises:
        DependencyDown: the database does not answer.
    """
    with all_tenants():
        async with connected() as connection:
            rows = await connection.fetch(
                "SELECT * FROM tenants WHERE tenant_id > $1 ORDER BY tenant_id LIMIT $2",
                after,
                limit,
            )
    return [tenant_from_row(row) for row in cast("Sequence[TenantRow]", rows)]


async def change_state(tenant_id: str, state: TenantState, now: datetime) -> Tenant | None:
    """Puts a tenant into a state, unless it is in it or being deleted; returns it as it is then.

    Returns:
        None if there is no such tenant.

    Raises:
        DependencyDown: the database does not answer.
    """
    with all_tenants():
        async with transaction() as connection:
            row = await connection.fetchrow(LOCK, tenant_id)
            if row is None:
                return None
            if row["state"] not in (state.value, TenantState.DELETING.value):
                delete_time = now if state is TenantState.DELETING else None
                if delete_time:
                    await legal_hold.refuse_any_held(connection, tenant_id)
                row = await connection.fetchrow(CHANGE, tenant_id, state.value, delete_time)
                await record_tenant_event(connection, ACTIONS[state], tenant_id, now)
                await notify_tenant(connection, tenant_id)
    return tenant_from_row(cast("TenantRow", row))


async def update_tenant(
    tenant_id: str,
    now: datetime,
    display_name: str | None,
    limits: Mapping[str, object] | None,
) -> Tenant | None:
    """Changes what is not None of a tenant; returns it as it is then.

    Returns:
        None if there is no such tenant, or it is being deleted.

    Raises:
        DependencyDown: the database does not answer.
    """
    with all_tenants():
        async with transaction() as connection:
            changed = None if limits is None else json.dumps(limits)
            row = await connection.fetchrow(UPDATE, tenant_id, display_name, changed)
            if row is None:
                return None
            action, detail = AuditAction.TENANT_UPDATE, sorted(limits or ())
            await record_tenant_event(connection, action, tenant_id, now, limits=detail)
            await notify_tenant(connection, tenant_id)
    return tenant_from_row(cast("TenantRow", row))


async def record_tenant_event(
    connection: Connection,
    action: AuditAction,
    tenant_id: str,
    now: datetime,
    **detail: object,
) -> None:
    """Adds an event about a tenant to the audit of the default tenant, which outlives it."""
    await audit.record_event(connection, DEFAULT_TENANT, action, tenant_id, now, **detail)


def tenant_from_row(row: TenantRow) -> Tenant:
    """Returns a row of `tenants` as a value."""
    return Tenant(
        tenant_id=row["tenant_id"],
        display_name=row["display_name"],
        state=TenantState(row["state"]),
        create_time=row["create_time"],
        delete_time=row["delete_time"],
        limits=json.loads(row["limits"]),
    )
