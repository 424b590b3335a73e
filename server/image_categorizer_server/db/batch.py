"""Batches: looked up, cancelled, retried, removed."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from image_categorizer_server import clock, failpoints
from image_categorizer_server.db import audit
from image_categorizer_server.db.acceptance import CHUNKS
from image_categorizer_server.db.convert import batch_from_row
from image_categorizer_server.db.database import connected, transaction
from image_categorizer_server.db.locks import (
    BULK_TIMEOUT_S,
    leave,
    lock_batch,
    settle,
)
from image_categorizer_server.db.result import list_failures
from image_categorizer_server.db.upload import leave_blobs
from image_categorizer_server.domain.audit import AuditAction
from image_categorizer_server.domain.batch import Batch, BatchState
from image_categorizer_server.domain.outbox import OutboxKind
from image_categorizer_server.errors import BatchNotFound, BatchRunning

MOST_FAILURES = 20
LIST = """
SELECT * FROM batches
WHERE tenant_id = $1 AND ($2::text IS NULL OR state = $2)
    AND (create_time, batch_id) < (coalesce($3::timestamptz, 'infinity'), coalesce($4::text, ''))
ORDER BY create_time DESC, batch_id DESC LIMIT $5
"""
# What was refused on the way in would be refused again.
FORGET_FAILURES = """
WITH forgotten AS (
    DELETE FROM batch_results r USING batch_items i
    WHERE r.batch_id = $1 AND r.status <> 'OK' AND i.batch_id = $1 AND i.number = r.number
        AND i.status IS NULL
    RETURNING 1
)
UPDATE batches SET failed_count = failed_count - (SELECT count(*) FROM forgotten)
WHERE batch_id = $1 RETURNING item_count - succeeded_count - failed_count AS pending
"""
AGAIN = """
UPDATE batches SET state = 'QUEUED', state_message = '', start_time = NULL, end_time = NULL,
    run_count = run_count + 1, mark_time = NULL, last_mark_time = NULL
WHERE batch_id = $1
"""


async def find(tenant_id: str, batch_id: str, most_failures: int = MOST_FAILURES) -> Batch:
    """Returns one batch of the tenant, with its first failures.

    Raises:
        BatchNotFound, DependencyDown: expected.
    """
    async with connected() as connection:
        row = await connection.fetchrow(
            "SELECT * FROM batches WHERE batch_id = $1 AND tenant_id = $2", batch_id, tenant_id
        )
    if row is None:
        raise BatchNotFound("no such batch")
    return (await _with_failures(tenant_id, [row], most_failures))[0]


async def list_batches(
    tenant_id: str,
    limit: int,
    before: tuple[datetime, str] | None = None,
    state: BatchState | None = None,
    most_failures: int = MOST_FAILURES,
) -> list[Batch]:
    """Returns batches of the tenant, the newest first.

    Args:
        tenant_id: whose batches.
        limit: the most batches.
        before: create time and id of the last batch of the page before.
        state: only those in this state.
        most_failures: of each batch.

    Raises:
        DependencyDown: the database does not answer.
    """
    time, batch_id = before or (None, None)
    async with connected() as connection:
        rows = await connection.fetch(
            LIST,
            tenant_id,
            state.value if state else None,
            time,
            batch_id,
            limit,
        )
    return await _with_failures(tenant_id, rows, most_failures)


async def _with_failures(tenant_id: str, rows: Sequence[Any], most: int) -> list[Batch]:
    failed = [row["batch_id"] for row in rows if row["failed_count"]]
    failures = await list_failures(tenant_id, failed, most) if failed and most else {}
    now = clock.now()
    return [batch_from_row(row, failures.get(row["batch_id"], ()), now) for row in rows]


async def cancel(tenant_id: str, batch_id: str) -> None:
    """Ends a batch early: leased chunks are finished, the others are held. Idempotent.

    Raises:
        BatchNotFound, DependencyDown: expected.
    """
    now = clock.now()
    async with transaction() as connection:
        batch = await _locked(connection, tenant_id, batch_id)
        if batch["state"] not in ("QUEUED", "RUNNING"):
            return
        await connection.execute(
            "UPDATE batch_chunks SET state = 'HELD' WHERE batch_id = $1 AND state = 'READY'",
            batch_id,
            timeout=BULK_TIMEOUT_S,
        )
        await connection.execute(
            "UPDATE batches SET state = 'CANCELLING' WHERE batch_id = $1", batch_id
        )
        await audit.note(connection, tenant_id, AuditAction.BATCH_CANCEL, batch_id, now)
        await settle(connection, batch_id, now)
    failpoints.hit("batch.cancelled")


async def retry(tenant_id: str, batch_id: str, chunk_items: int) -> bool:
    """Begins failed and pending items of an ended batch again; returns whether there were any.

    Raises:
        BatchNotFound, BatchRunning, DependencyDown: expected.
    """
    now = clock.now()
    async with transaction() as connection:
        await _locked(connection, tenant_id, batch_id, ended=True)
        pending = await connection.fetchval(FORGET_FAILURES, batch_id, timeout=BULK_TIMEOUT_S)
        if not pending:
            return False
        await connection.execute("DELETE FROM batch_chunks WHERE batch_id = $1", batch_id)
        await connection.execute(CHUNKS, batch_id, chunk_items, now, timeout=BULK_TIMEOUT_S)
        await connection.execute(AGAIN, batch_id)
        await audit.note(
            connection, tenant_id, AuditAction.BATCH_RETRY, batch_id, now, item_count=pending
        )
        await leave(connection, OutboxKind.DOORBELL, tenant_id, batch_id, now, {})
    failpoints.hit("batch.retried")
    return True


async def delete(tenant_id: str, batch_id: str) -> None:
    """Removes an ended batch with all that belongs to it; its images are left to the outbox.

    Raises:
        BatchNotFound, BatchRunning, DependencyDown: expected.
    """
    now = clock.now()
    async with transaction() as connection:
        batch = await _locked(connection, tenant_id, batch_id, ended=True)
        await leave_blobs(connection, tenant_id, batch_id, now)
        for table in ("batch_results", "batch_chunks", "batch_items", "batches"):
            await connection.execute(
                f"DELETE FROM {table} WHERE batch_id = $1",  # noqa: S608
                batch_id,
                timeout=BULK_TIMEOUT_S,
            )
        await connection.execute(
            "DELETE FROM outbox WHERE batch_id = $1 AND kind = 'doorbell' AND done_time IS NULL",
            batch_id,
        )
        await audit.note(
            connection,
            tenant_id,
            AuditAction.BATCH_DELETE,
            batch_id,
            now,
            item_count=batch["item_count"],
        )
    failpoints.hit("batch.deleting")


async def _locked(connection: Any, tenant_id: str, batch_id: str, ended: bool = False) -> Any:
    batch = await lock_batch(connection, batch_id, tenant_id)
    if batch is None:
        raise BatchNotFound("no such batch")
    if ended and not BatchState(batch["state"]).has_ended:
        raise BatchRunning("the batch has not ended")
    return batch
