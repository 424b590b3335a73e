"""How an upload becomes a batch: in one transaction, and once for each request id."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from image_categorizer_server import clock, failpoints
from image_categorizer_server.db import audit
from image_categorizer_server.db.convert import options_to_json
from image_categorizer_server.db.database import transaction
from image_categorizer_server.db.locks import BULK_TIMEOUT_S, leave, settle
from image_categorizer_server.db.upload import GIVEN_UP
from image_categorizer_server.domain.audit import AuditAction
from image_categorizer_server.domain.batch import BatchConfig
from image_categorizer_server.domain.outbox import OutboxKind
from image_categorizer_server.errors import DependencyDown

INSERT = """
INSERT INTO batches (batch_id, tenant_id, state, state_message, options, webhook_url, priority,
    request_id, request_sha256, item_count, succeeded_count, failed_count, run_count, created_by,
    create_time, mark_count, last_mark_count)
VALUES ($1, $2, 'QUEUED', '', $3, $4, $5, $6, $7, $8, 0, 0, 1, $9, $10, 0, 0)
ON CONFLICT (tenant_id, request_id) DO NOTHING
RETURNING batch_id
"""
# What failed on the way in has its outcome at once.
REFUSED = """
WITH refused AS (
    INSERT INTO batch_results (batch_id, number, tenant_id, status, reason, message, model_name,
        model_version, model_digest, create_time)
    SELECT batch_id, number, tenant_id, status, reason, message, '', 0, '', $2::timestamptz
    FROM batch_items WHERE batch_id = $1 AND status IS NOT NULL
    RETURNING 1
)
UPDATE batches SET failed_count = (SELECT count(*) FROM refused) WHERE batch_id = $1
"""
# A chunk is a range of numbers in which an item has no outcome yet.
CHUNKS = """
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


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What became of an upload."""

    batch_id: str
    """The new batch, or the one that was created with the same request id before."""
    request_sha256: str
    """Of the request that created the batch."""
    is_new: bool


async def accept(
    tenant_id: str,
    batch_id: str,
    key_id: str,
    config: BatchConfig,
    request_sha256: str,
    item_count: int,
    chunk_items: int,
    request_id_s: float,
) -> Acceptance:
    """Makes an upload a batch, in one transaction, or finds the batch that it repeats.

    Of requests with one id that come at once one becomes the batch, and the others find it.

    Raises:
        DependencyDown: the database does not answer, or the upload was given up because
            nothing was heard of it for too long.
    """
    now, new = clock.now(), Acceptance(batch_id, request_sha256, is_new=True)
    async with transaction() as connection:
        first = await _first_of(connection, tenant_id, config.request_id, now, request_id_s)
        if first is not None:
            return first
        if not await _insert(connection, new, tenant_id, key_id, config, item_count, now):
            # Another request with this id was committed just now.
            first = await _first_of(connection, tenant_id, config.request_id, now, request_id_s)
            if first is None:
                raise DependencyDown("the batch of this request id was removed just now")
            return first
        if not await connection.fetchval(
            "DELETE FROM batch_uploads WHERE batch_id = $1 RETURNING true", batch_id
        ):
            raise DependencyDown(GIVEN_UP)
        await connection.execute(REFUSED, batch_id, now, timeout=BULK_TIMEOUT_S)
        await connection.execute(CHUNKS, batch_id, chunk_items, now, timeout=BULK_TIMEOUT_S)
        if not await settle(connection, batch_id, now):
            await leave(connection, OutboxKind.DOORBELL, tenant_id, batch_id, now, {})
        failpoints.hit("batch.accepting")
    failpoints.hit("batch.accepted")
    return new


async def _insert(
    connection: Any,
    new: Acceptance,
    tenant_id: str,
    key_id: str,
    config: BatchConfig,
    item_count: int,
    now: datetime,
) -> bool:
    """Writes the row of the batch, and who created it; returns False where its request id is taken.

    Waits for another transaction that has written the same request id.
    """
    inserted = await connection.fetchval(
        INSERT,
        new.batch_id,
        tenant_id,
        options_to_json(config.options),
        config.webhook_url,
        config.priority,
        config.request_id or None,
        new.request_sha256,
        item_count,
        key_id,
        now,
    )
    if inserted is None:
        return False
    await audit.note(
        connection,
        tenant_id,
        AuditAction.BATCH_CREATE,
        new.batch_id,
        now,
        item_count=item_count,
        priority=config.priority,
        webhook_host=audit.host_of(config.webhook_url),
    )
    return True


async def _first_of(
    connection: Any, tenant_id: str, request_id: str, now: datetime, request_id_s: float
) -> Acceptance | None:
    """Returns the batch that was created with this request id; None where there is none."""
    if not request_id:
        return None
    await connection.execute(
        "UPDATE batches SET request_id = NULL, request_sha256 = NULL"
        " WHERE tenant_id = $1 AND request_id = $2 AND create_time < $3",
        tenant_id,
        request_id,
        now - timedelta(seconds=request_id_s),
    )
    row = await connection.fetchrow(
        "SELECT batch_id, request_sha256 FROM batches WHERE tenant_id = $1 AND request_id = $2",
        tenant_id,
        request_id,
    )
    return Acceptance(row["batch_id"], row["request_sha256"], is_new=False) if row else None
