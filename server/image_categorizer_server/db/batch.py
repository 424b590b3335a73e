"""Batches: created, read, cancelled, retried, finished, removed."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol, cast

from image_categorizer_server import clock, failpoints
from image_categorizer_server.db import audit, legal_hold, outbox, removal
from image_categorizer_server.db.convert import batch_from_row, result_from_row
from image_categorizer_server.db.database import (
    BULK_TIMEOUT_S,
    Connection,
    connected,
    transaction,
)
from image_categorizer_server.db.locks import lock_batch
from image_categorizer_server.db.tables import BatchRow, ResultRow
from image_categorizer_server.domain.audit import AuditAction
from image_categorizer_server.domain.batch import Batch, BatchState, ItemResult
from image_categorizer_server.domain.outbox import OutboxKind
from image_categorizer_server.errors import BatchNotFound, BatchRunning
from image_categorizer_server.telemetry.tracing import current_traceparent

# Failures that a batch carries by itself.
MAX_FAILURES = 20
LIST = """
SELECT * FROM batches
WHERE tenant_id = $1 AND ($2::text IS NULL OR state = $2)
    AND (create_time, batch_id) < (coalesce($3::timestamptz, 'infinity'), coalesce($4::text, ''))
ORDER BY create_time DESC, batch_id DESC LIMIT $5
"""
LIST_OF_SUBJECT = """
SELECT * FROM batches WHERE tenant_id = $1 AND subject_key = $2 AND subject_key <> ''
    AND batch_id > $3
ORDER BY batch_id LIMIT $4
"""
OBJECTS = """
SELECT number, object_key FROM batch_items
WHERE batch_id = $1 AND number > $2 AND object_key IS NOT NULL ORDER BY number LIMIT $3
"""
FAILURES = """
SELECT f.*, i.filename FROM unnest($1::text[]) AS b (batch_id)
CROSS JOIN LATERAL (
    SELECT * FROM batch_results r
    WHERE r.batch_id = b.batch_id AND r.status <> 'OK' AND r.tenant_id = $2
    ORDER BY r.number LIMIT $3) f
JOIN batch_items i ON i.batch_id = f.batch_id AND i.number = f.number
ORDER BY f.batch_id, f.number
"""
# A chunk is a range of item numbers.  A range whose items all have outcomes gets no chunk.
CREATE_CHUNKS = """
INSERT INTO batch_chunks (batch_id, number, tenant_id, priority, first_item, item_count, done_count,
    state, lease_token, worker, worker_crashes, is_isolated, available_at)
SELECT b.batch_id, p.number, b.tenant_id, b.priority, p.number * $2::int, p.size,
    p.size - p.pending, 'READY', 0, '', 0, false, $3::timestamptz
FROM batches b CROSS JOIN (
    SELECT i.number / $2::int AS number, count(*) AS size,
        count(*) FILTER (WHERE r.number IS NULL) AS pending
    FROM batch_items i LEFT JOIN batch_results r
        ON r.batch_id = i.batch_id AND r.number = i.number
    WHERE i.batch_id = $1 GROUP BY 1) p
WHERE b.batch_id = $1 AND p.pending > 0
"""
# Items that were refused during the upload would be refused again: their failures stay.
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
RESTART = """
UPDATE batches SET state = 'QUEUED', state_message = '', start_time = NULL, end_time = NULL,
    run_count = run_count + 1, mark_time = NULL, last_mark_time = NULL,
    traceparent = $2
WHERE batch_id = $1
"""
# A batch whose items all have outcomes is complete, even while it is being cancelled.
FINAL_STATE = """
SELECT CASE
    WHEN succeeded_count + failed_count = item_count THEN 'COMPLETED'
    WHEN state = 'CANCELLING' AND NOT EXISTS (
        SELECT FROM batch_chunks c WHERE c.batch_id = b.batch_id AND c.state = 'LEASED')
    THEN 'CANCELLED' END
FROM batches b WHERE batch_id = $1 AND state IN ('QUEUED', 'RUNNING', 'CANCELLING')
"""
FINISH = """
UPDATE batches SET state = $2, state_message = $3, end_time = $4 WHERE batch_id = $1 RETURNING *
"""


async def find(tenant_id: str, batch_id: str, max_failures: int = MAX_FAILURES) -> Batch:
    """Returns one batch of the tenant, with its first failures.

    Raises:
        BatchNotFound: the tenant has no such batch.
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        row = await connection.fetchrow(
            "SELECT * FROM batches WHERE batch_id = $1 AND tenant_id = $2", batch_id, tenant_id
        )
    if row is None:
        raise BatchNotFound("no such batch")
    (batch,) = await _with_failures(tenant_id, [cast("BatchRow", row)], max_failures)
    return batch


async def list_batches(
    tenant_id: str,
    limit: int,
    before: tuple[datetime, str] | None = None,
    state: BatchState | None = None,
    max_failures: int = MAX_FAILURES,
) -> list[Batch]:
    """Returns batches of the tenant, the newest first.

    Args:
        tenant_id: the tenant.
        limit: the maximum number of batches.
        before: create time and id of the last batch of the previous page.
        state: only batches in this state; None for all.
        max_failures: the maximum number of failures that each batch carries.

    Raises:
        DependencyDown: the database does not answer.
    """
    time, batch_id = before or (None, None)
    async with connected() as connection:
        rows = await connection.fetch(
            LIST, tenant_id, state.value if state else None, time, batch_id, limit
        )
    return await _with_failures(tenant_id, cast("Sequence[BatchRow]", rows), max_failures)


async def list_of_subject(tenant_id: str, subject_key: str, after: str, limit: int) -> list[Batch]:
    """Returns batches of a subject by id, after one id, without their failures.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(LIST_OF_SUBJECT, tenant_id, subject_key, after, limit)
    now = clock.now()
    return [batch_from_row(row, (), now) for row in cast("Sequence[BatchRow]", rows)]


async def list_objects(batch_id: str, after: int, limit: int) -> list[tuple[int, str]]:
    """Returns number and key of the stored images of a batch, after one number.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(OBJECTS, batch_id, after, limit)
    return [(cast("int", row["number"]), str(row["object_key"])) for row in rows]


async def _with_failures(tenant_id: str, rows: Sequence[BatchRow], limit: int) -> list[Batch]:
    failed = [row["batch_id"] for row in rows if row["failed_count"]]
    failures: dict[str, list[ItemResult]] = {batch_id: [] for batch_id in failed}
    if failed and limit:
        async with connected() as connection:
            found = await connection.fetch(FAILURES, failed, tenant_id, limit)
        for row in cast("Sequence[ResultRow]", found):
            failures[row["batch_id"]].append(result_from_row(row))
    now = clock.now()
    return [batch_from_row(row, tuple(failures.get(row["batch_id"], ())), now) for row in rows]


async def cancel(tenant_id: str, batch_id: str) -> None:
    """Cancels a batch: leased chunks are finished, the others are held.  Idempotent.

    Raises:
        BatchNotFound: the tenant has no such batch.
        DependencyDown: the database does not answer.
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
        await audit.record_event(connection, tenant_id, AuditAction.BATCH_CANCEL, batch_id, now)
        await finish_if_done(connection, batch_id, now)
    failpoints.hit("batch.cancelled")


class Admission(Protocol):
    """Decides whether a batch may be made or restarted."""

    async def lock(self, connection: Connection) -> None:
        """Makes others wait until the transaction ends."""
        ...

    async def admit(self, connection: Connection, images: int) -> None:
        """Raises an error if the batch should be refused; takes its images otherwise."""
        ...


async def retry(
    tenant_id: str,
    batch_id: str,
    chunk_items: int,
    admission: Admission | None = None,
) -> bool:
    """Restarts an ended batch for its failed and pending items; returns False if it has none.

    Args:
        tenant_id: the tenant.
        batch_id: the batch.
        chunk_items: the maximum number of items in a chunk.
        admission: is asked about these items; None admits all.

    Raises:
        BatchNotFound: the tenant has no such batch.
        BatchRunning: the batch has not ended.
        DependencyDown: the database does not answer.
    """
    now = clock.now()
    async with transaction() as connection:
        await _locked(connection, tenant_id, batch_id, must_have_ended=True)
        pending = await connection.fetchval(FORGET_FAILURES, batch_id, timeout=BULK_TIMEOUT_S)
        if not pending:
            return False
        if admission:
            await admission.lock(connection)
            await admission.admit(connection, cast("int", pending))
        await connection.execute("DELETE FROM batch_chunks WHERE batch_id = $1", batch_id)
        await create_chunks(connection, batch_id, chunk_items, now)
        await connection.execute(RESTART, batch_id, current_traceparent())
        await audit.record_event(
            connection, tenant_id, AuditAction.BATCH_RETRY, batch_id, now, item_count=pending
        )
        await outbox.add(connection, OutboxKind.DOORBELL, tenant_id, batch_id, now)
    failpoints.hit("batch.retried")
    return True


async def delete(tenant_id: str, batch_id: str) -> None:
    """Removes an ended batch for every caller; sweeps remove its other rows and its images.

    All reading begins with the row of the batch, so nobody can see what is left of it.  The time
    this takes does not depend on the number of items.

    Raises:
        BatchNotFound: the tenant has no such batch.
        BatchRunning: the batch has not ended.
        LegallyHeld: its subject or the tenant is held.
        DependencyDown: the database does not answer.
    """
    now = clock.now()
    async with transaction() as connection:
        batch = await _locked(connection, tenant_id, batch_id, must_have_ended=True)
        targets = legal_hold.targets_of(batch["subject_key"])
        await legal_hold.refuse_held(connection, tenant_id, targets)
        await removal.remove_batches(connection, tenant_id, [batch_id], now)
        await audit.record_event(
            connection,
            tenant_id,
            AuditAction.BATCH_DELETE,
            batch_id,
            now,
            item_count=batch["item_count"],
        )
    failpoints.hit("batch.deleting")


async def _locked(
    connection: Connection, tenant_id: str, batch_id: str, must_have_ended: bool = False
) -> BatchRow:
    batch = await lock_batch(connection, batch_id, tenant_id)
    if batch is None:
        raise BatchNotFound("no such batch")
    if must_have_ended and not BatchState(batch["state"]).has_ended:
        raise BatchRunning("the batch has not ended")
    return batch


async def create_chunks(
    connection: Connection, batch_id: str, chunk_items: int, now: datetime
) -> None:
    """Divides the items of a batch that have no outcome into chunks of `chunk_items` at most."""
    await connection.execute(CREATE_CHUNKS, batch_id, chunk_items, now, timeout=BULK_TIMEOUT_S)


async def finish_if_done(connection: Connection, batch_id: str, now: datetime) -> bool:
    """Ends a batch that has nothing left to do; returns whether it did.

    The transaction has locked the batch.
    """
    state = await connection.fetchval(FINAL_STATE, batch_id)
    if state is None:
        return False
    await finish(connection, batch_id, BatchState(state), "", now)
    return True


async def finish(
    connection: Connection, batch_id: str, state: BatchState, message: str, now: datetime
) -> None:
    """Ends a batch, and adds a message about that to the outbox.

    The transaction has locked the batch.
    """
    row = cast("BatchRow", await connection.fetchrow(FINISH, batch_id, state.value, message, now))
    event = f"batch.{state.value.lower()}"
    payload = {
        "type": event,
        "batch_id": batch_id,
        "run": row["run_count"],
        "state": state.value,
        "state_message": message,
        "item_count": row["item_count"],
        "succeeded_count": row["succeeded_count"],
        "failed_count": row["failed_count"],
        "create_time": row["create_time"].isoformat(),
        "end_time": now.isoformat(),
        "webhook_url": row["webhook_url"],
    }
    await outbox.add(connection, OutboxKind.WEBHOOK, row["tenant_id"], batch_id, now, payload)
    await audit.record_event(
        connection,
        row["tenant_id"],
        AuditAction(event),
        batch_id,
        now,
        run=row["run_count"],
        item_count=row["item_count"],
        succeeded_count=row["succeeded_count"],
        failed_count=row["failed_count"],
    )
