"""What changes of batches have in common: the order of locks, and the end of a batch.

Whoever changes a batch, or more than one of its chunks, locks the row of the batch first; who holds
only the lock of a chunk waits for nothing more.  So there are no deadlocks, and what a transaction
decides about a batch is decided with all that was decided before it in sight.
"""

import json
from datetime import datetime
from typing import Any

from image_categorizer_server.db import audit
from image_categorizer_server.domain.audit import AuditAction
from image_categorizer_server.domain.batch import BatchState
from image_categorizer_server.domain.outbox import OutboxKind

# Most time for a statement that touches every item of a batch.
BULK_TIMEOUT_S = 300.0
STATE = """
SELECT CASE
    WHEN succeeded_count + failed_count = item_count THEN 'COMPLETED'
    WHEN state = 'CANCELLING' AND NOT EXISTS (
        SELECT FROM batch_chunks c WHERE c.batch_id = b.batch_id AND c.state = 'LEASED')
    THEN 'CANCELLED' END
FROM batches b WHERE batch_id = $1 AND state IN ('QUEUED', 'RUNNING', 'CANCELLING')
"""


async def lock_batch(connection: Any, batch_id: str, tenant_id: str | None = None) -> Any | None:
    """Returns the row of the batch, locked until the transaction ends; None where there is none.

    Args:
        connection: has a transaction open.
        batch_id: the batch.
        tenant_id: whose batch it must be; None where a lease was the proof.
    """
    return await connection.fetchrow(
        "SELECT * FROM batches WHERE batch_id = $1 AND ($2::text IS NULL OR tenant_id = $2)"
        " FOR NO KEY UPDATE",
        batch_id,
        tenant_id,
    )


def resting_state(batch: Any) -> str:
    """Returns the state of a chunk that is given back: READY only where its batch runs."""
    return "READY" if batch["state"] in ("QUEUED", "RUNNING") else "HELD"


async def settle(connection: Any, batch_id: str, now: datetime) -> bool:
    """Ends the locked batch where nothing is left to do; returns whether it did.

    Complete is a batch whose items all have outcomes, even where it was being cancelled.
    """
    state = await connection.fetchval(
        STATE,
        batch_id,
    )
    if state is None:
        return False
    await end_batch(connection, batch_id, BatchState(state), "", now)
    return True


async def end_batch(
    connection: Any, batch_id: str, state: BatchState, message: str, now: datetime
) -> None:
    """Writes the end of the locked batch, and that its tenant is to be told."""
    row = await connection.fetchrow(
        "UPDATE batches SET state = $2, state_message = $3, end_time = $4 WHERE batch_id = $1"
        " RETURNING *",
        batch_id,
        state.value,
        message,
        now,
    )
    payload = {
        "type": f"batch.{state.value.lower()}",
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
    await leave(connection, OutboxKind.WEBHOOK, row["tenant_id"], batch_id, now, payload)
    await audit.note(
        connection,
        row["tenant_id"],
        AuditAction(payload["type"]),
        batch_id,
        now,
        run=row["run_count"],
        item_count=row["item_count"],
        succeeded_count=row["succeeded_count"],
        failed_count=row["failed_count"],
    )


async def leave(
    connection: Any,
    kind: OutboxKind,
    tenant_id: str,
    batch_id: str,
    now: datetime,
    payload: dict[str, Any],
) -> None:
    """Leaves something in the outbox, to be done once the transaction is committed."""
    await connection.execute(
        "INSERT INTO outbox (tenant_id, kind, batch_id, payload, create_time, take_after)"
        " VALUES ($1, $2, $3, $4, $5, $5)",
        tenant_id,
        kind.value,
        batch_id,
        json.dumps(payload),
        now,
    )
