"""What follows when a process dies over a chunk: once more, then each item alone, then no more."""

from datetime import datetime
from typing import Any

from image_categorizer_server.db.audit import note
from image_categorizer_server.db.locks import resting_state
from image_categorizer_server.domain.audit import AuditAction
from image_categorizer_server.errors import ItemKilledWorkers

# After so many deaths each item of the chunk is run alone, after so many it fails.
ALONE_AFTER_DEATHS = 2
FAILED_AFTER_DEATHS = 3
# Who runs an item alone does it in a child and lives to tell. Where both are gone, something else
# may have ended them, so that many deaths are needed.
FAILED_AFTER_UNSEEN_DEATHS = 10

SPLIT = """
INSERT INTO batch_chunks (batch_id, number, tenant_id, priority, first_item, item_count, done_count,
    state, lease_token, worker, worker_crashes, is_isolated, available_at, server_crashes)
SELECT c.batch_id, m.number + row_number() OVER (ORDER BY i.number), c.tenant_id, c.priority,
    i.number, 1, 0, $3::text, 0, '', $4::int, true, c.available_at, c.server_crashes
FROM batch_chunks c
JOIN batch_items i ON i.batch_id = c.batch_id
    AND i.number >= c.first_item AND i.number < c.first_item + c.item_count
CROSS JOIN (SELECT max(number) AS number FROM batch_chunks WHERE batch_id = $1) m
WHERE c.batch_id = $1 AND c.number = $2
    AND NOT EXISTS (SELECT FROM batch_results r WHERE r.batch_id = $1 AND r.number = i.number)
"""
REST = """
UPDATE batch_chunks SET state = $3, lease_until = NULL, worker = '', worker_crashes = $4
WHERE batch_id = $1 AND number = $2
"""
# What is done of the chunk stays done; what is not has chunks of its own now.
CLOSE = """
UPDATE batch_chunks
SET state = 'DONE', item_count = done_count, lease_until = NULL, worker_crashes = $3
WHERE batch_id = $1 AND number = $2
"""
FAIL = """
WITH failed AS (
    INSERT INTO batch_results (batch_id, number, tenant_id, status, reason, message, model_name,
        model_version, model_digest, create_time)
    SELECT batch_id, first_item, tenant_id, $3::text, $4::text, $5::text, '', 0, '',
        $6::timestamptz
    FROM batch_chunks WHERE batch_id = $1 AND number = $2
    RETURNING batch_id
), done AS (
    UPDATE batch_chunks
    SET state = 'DONE', done_count = item_count, lease_until = NULL,
        worker_crashes = worker_crashes + 1
    WHERE batch_id = $1 AND number = $2
)
UPDATE batches b SET failed_count = failed_count + 1 FROM failed f WHERE b.batch_id = f.batch_id
"""


async def count_worker_crash(
    connection: Any, batch: Any, chunk: Any, now: datetime, *, is_seen: bool
) -> None:
    """Ends the lease of a locked chunk whose process died; the transaction has locked the batch.

    Args:
        connection: has the transaction open.
        batch: the row of the batch.
        chunk: the row of the chunk.
        now: the moment to write down.
        is_seen: whether somebody saw it; else the lease ended in silence.
    """
    key = (chunk["batch_id"], chunk["number"])
    worker_crashes = chunk["worker_crashes"] + 1
    state = resting_state(batch)
    most = FAILED_AFTER_DEATHS if is_seen else FAILED_AFTER_UNSEEN_DEATHS
    if worker_crashes >= most and chunk["is_isolated"]:
        await connection.execute(
            FAIL,
            *key,
            ItemKilledWorkers.status,
            ItemKilledWorkers.reason,
            f"{worker_crashes} processes died while they worked on it",
            now,
        )
        number = chunk["first_item"]
        await note_item_crashed(connection, batch, number, ItemKilledWorkers.reason, now)
    elif worker_crashes >= ALONE_AFTER_DEATHS and not chunk["is_isolated"]:
        await connection.execute(SPLIT, *key, state, worker_crashes)
        await connection.execute(CLOSE, *key, worker_crashes)
    else:
        await connection.execute(REST, *key, state, worker_crashes)


async def note_item_crashed(
    connection: Any, batch: Any, number: int, reason: str, now: datetime
) -> None:
    """Writes down for the audit that an item failed because processes die of it.

    Args:
        connection: has the transaction open in which it fails.
        batch: the row of the batch.
        number: of the item.
        reason: of its error.
        now: the moment to write down.
    """
    names = (batch["tenant_id"], AuditAction.BATCH_ITEM_CRASHED, batch["batch_id"])
    await note(connection, *names, now, number=number, reason=reason)


async def end_lease(connection: Any, batch: Any, chunk: Any) -> None:
    """Ends the lease of a locked chunk, as no death; the transaction has locked the batch."""
    key = (chunk["batch_id"], chunk["number"])
    await connection.execute(REST, *key, resting_state(batch), chunk["worker_crashes"])
