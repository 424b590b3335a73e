"""Removal of what belongs to a deleted tenant, piece by piece.

    DELETING ─▶ batches, uploads ─▶ the outbox removes their rows and images: see `removal.py`
             ─▶ rows of every other table
             ─▶ nothing is left, and calls that had begun have ended ─▶ the tenant itself

Each piece is one short transaction, so a process may die anywhere, and any number of processes may
remove at once.  The tables are found in the catalog: a later one is not forgotten.  Append-only
tables stay.
"""

from collections.abc import Sequence
from typing import cast

from image_categorizer_server import clock
from image_categorizer_server.db.database import Connection, connected, transaction
from image_categorizer_server.db.isolation import TENANT_TABLES
from image_categorizer_server.db.tables import TenantRow
from image_categorizer_server.db.tenant import record_tenant_event, tenant_from_row
from image_categorizer_server.domain.audit import AuditAction
from image_categorizer_server.domain.tenant import Tenant

# The outbox removes the rows of these after their batch.  They have no index by tenant: whoever
# looks for a tenant's rows in them reads them all.
OF_BATCHES = ("batch_items", "batch_chunks", "batch_results")
# Removed by statements of their own.
NOT_PLAIN = ("batches", "batch_uploads", "outbox")
# Of a batch or an upload: nothing adds rows to it afterwards.
REMOVE_BATCHES = """
WITH gone AS (
    DELETE FROM {table} WHERE batch_id IN (
        SELECT batch_id FROM {table} WHERE tenant_id = $1 LIMIT $2 FOR UPDATE SKIP LOCKED)
    RETURNING batch_id)
INSERT INTO outbox (tenant_id, kind, batch_id, payload, create_time, take_after)
SELECT $1::text, 'rows', batch_id, '{{"first_item": 0}}', $3::timestamptz, $3::timestamptz FROM gone
"""
REMOVE_MESSAGES = """
DELETE FROM outbox WHERE outbox_id IN (
    SELECT outbox_id FROM outbox WHERE tenant_id = $1 AND kind IN ('doorbell', 'webhook')
    LIMIT $2 FOR UPDATE SKIP LOCKED)
"""
REMOVE_ROWS = """
DELETE FROM {table} WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM {table} WHERE tenant_id = $1 LIMIT $2 FOR UPDATE SKIP LOCKED))
"""
LIST = "SELECT * FROM tenants WHERE state = 'DELETING' ORDER BY delete_time, tenant_id LIMIT $1"
LOCK = "SELECT true FROM tenants WHERE tenant_id = $1 AND state = 'DELETING' FOR UPDATE"


async def list_deleted(limit: int) -> list[Tenant]:
    """Returns tenants that are being removed, the oldest deletion first.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(LIST, limit)
    return [tenant_from_row(row) for row in cast("Sequence[TenantRow]", rows)]


async def remove_piece(tenant_id: str, max_rows: int) -> bool:
    """Removes some rows of a deleted tenant, of one table; returns False if it finds none.

    Rows that another transaction holds are left for the next call.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        for table in ("batches", "batch_uploads"):
            statement = REMOVE_BATCHES.format(table=table)
            if _count(await connection.execute(statement, tenant_id, max_rows, clock.now())):
                return True
        if _count(await connection.execute(REMOVE_MESSAGES, tenant_id, max_rows)):
            return True
        for table in await _tables(connection):
            if table not in NOT_PLAIN:
                statement = REMOVE_ROWS.format(table=table)
                if _count(await connection.execute(statement, tenant_id, max_rows)):
                    return True
    return False


async def is_empty(tenant_id: str) -> bool:
    """Returns whether no row of a deleted tenant is left, beside its own and those of the audit.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        return await _is_empty(connection, tenant_id)


async def remove_tenant(tenant_id: str) -> bool:
    """Removes a deleted tenant of which nothing is left, so that its name is free again.

    Returns:
        False if something is left of it, or it is gone.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        if not await connection.fetchval(LOCK, tenant_id):
            return False
        if not await _is_empty(connection, tenant_id):
            return False
        await connection.execute("DELETE FROM tenants WHERE tenant_id = $1", tenant_id)
        action = AuditAction.TENANT_REMOVED
        await record_tenant_event(connection, action, tenant_id, clock.now())
    return True


async def _is_empty(connection: Connection, tenant_id: str) -> bool:
    for table in await _tables(connection):
        query = f"SELECT EXISTS (SELECT FROM {table} WHERE tenant_id = $1)"  # noqa: S608 - a table
        if await connection.fetchval(query, tenant_id):
            return False
    return True


async def _tables(connection: Connection) -> list[str]:
    """Returns the tables with rows of tenants that are removed by tenant."""
    found = await connection.fetch(TENANT_TABLES)
    names = [str(table["name"]) for table in found if not table["is_of_audit"]]
    return [name for name in names if name not in ("tenants", *OF_BATCHES)]


def _count(command_tag: str) -> int:
    return int(command_tag.rpartition(" ")[2])
