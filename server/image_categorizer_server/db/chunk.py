"""Chunks of batches: what a worker leases, and how a lease ends.

A chunk is READY, LEASED, HELD (its batch was cancelled or failed) or DONE.  A lease is proven by
its token: a worker that was thought dead, and whose chunk another one has, can write nothing more.
"""

from datetime import datetime, timedelta
from typing import Any

from image_categorizer_server import clock, failpoints
from image_categorizer_server.db.convert import (
    crash_counts_from_json,
    item_from_row,
    options_from_json,
)
from image_categorizer_server.db.database import connected, transaction
from image_categorizer_server.db.deaths import count_worker_crash, end_lease
from image_categorizer_server.db.locks import end_batch, leave, lock_batch, resting_state, settle
from image_categorizer_server.domain.batch import BatchState, Chunk
from image_categorizer_server.domain.outbox import OutboxKind

# Any number will do, as long as no other lock of ours has the same.
SWEEP_LOCK = 0x1CA7E61
# The tenant with the fewest leased chunks goes first: `waiting` walks the index from tenant to
# tenant, whatever the number of chunks.  Of equals a random one, or one of them would always win.
CLAIM = """
WITH RECURSIVE waiting AS (
    (SELECT tenant_id FROM batch_chunks WHERE state = 'READY' ORDER BY tenant_id LIMIT 1)
    UNION ALL
    SELECT (SELECT c.tenant_id FROM batch_chunks c
            WHERE c.state = 'READY' AND c.tenant_id > w.tenant_id ORDER BY c.tenant_id LIMIT 1)
    FROM waiting w WHERE w.tenant_id IS NOT NULL
), busy AS (
    SELECT tenant_id, count(*) AS chunks FROM batch_chunks WHERE state = 'LEASED' GROUP BY 1
), turns AS MATERIALIZED (
    SELECT w.tenant_id FROM waiting w LEFT JOIN busy USING (tenant_id)
    WHERE w.tenant_id IS NOT NULL ORDER BY coalesce(busy.chunks, 0), random()
), picked AS MATERIALIZED (
    SELECT next.batch_id, next.number FROM turns t CROSS JOIN LATERAL (
        SELECT c.batch_id, c.number FROM batch_chunks c
        WHERE c.tenant_id = t.tenant_id AND c.state = 'READY' AND c.available_at <= $1
        ORDER BY c.priority DESC, c.available_at, c.batch_id, c.number
        LIMIT 1 FOR UPDATE SKIP LOCKED) next
    LIMIT 1
)
UPDATE batch_chunks c
SET state = 'LEASED', lease_token = nextval('batch_lease_tokens'), lease_until = $2, worker = $3
FROM picked p WHERE c.batch_id = p.batch_id AND c.number = p.number
RETURNING c.*
"""
ITEMS = """
SELECT i.number, i.filename, i.object_key, i.image_uri, i.size_bytes FROM batch_items i
WHERE i.batch_id = $1 AND i.number >= $2 AND i.number < $3
    AND NOT EXISTS (SELECT FROM batch_results r WHERE r.batch_id = $1 AND r.number = i.number)
ORDER BY i.number
"""
BEGIN = """
UPDATE batches
SET state = CASE state WHEN 'QUEUED' THEN 'RUNNING' ELSE state END, start_time = $2,
    mark_time = $2, mark_count = succeeded_count + failed_count
WHERE batch_id = $1 AND start_time IS NULL AND state IN ('QUEUED', 'CANCELLING')
"""
LATE = """
SELECT DISTINCT batch_id FROM (
    SELECT batch_id FROM batch_chunks
    WHERE state = 'LEASED' AND lease_until < $1 ORDER BY lease_until LIMIT $2) late
"""
HELD_UNTIL = "batch_id = $1 AND number = $2 AND state = 'LEASED' AND lease_token = $3"


async def claim(worker: str, lease_s: float) -> Chunk | None:
    """Leases the next chunk; None where none is ready.

    The tenant with the fewest leased chunks goes first; of its batches the one with the greatest
    priority, then the oldest.

    Args:
        worker: who claims, for a person to read.
        lease_s: how long the chunk is the caller's, unless it is extended.

    Raises:
        DependencyDown: the database does not answer.
    """
    now = clock.now()
    async with connected() as connection:
        row = await connection.fetchrow(CLAIM, now, now + timedelta(seconds=lease_s), worker)
        if row is None:
            return None
        failpoints.hit("chunk.claimed")
        batch = await connection.fetchrow(
            "SELECT options, start_time FROM batches WHERE batch_id = $1", row["batch_id"]
        )
        if batch is None:  # failed and deleted meanwhile, by others
            return None
        if batch["start_time"] is None:
            # Not in the same transaction: a chunk's lock must not wait for that of its batch.
            await connection.execute(BEGIN, row["batch_id"], now)
        end = row["first_item"] + row["item_count"]
        items = await connection.fetch(ITEMS, row["batch_id"], row["first_item"], end)
    return Chunk(
        batch_id=row["batch_id"],
        number=row["number"],
        tenant_id=row["tenant_id"],
        lease_token=row["lease_token"],
        options=options_from_json(batch["options"]),
        items=tuple(item_from_row(item) for item in items),
        worker_crashes=row["worker_crashes"],
        is_isolated=row["is_isolated"],
        server_crashes=crash_counts_from_json(row["server_crashes"]),
    )


async def extend(chunk: Chunk, lease_s: float) -> bool:
    """Makes the lease last `lease_s` from now; returns False where it is lost.

    Raises:
        DependencyDown: the database does not answer.
    """
    until = clock.now() + timedelta(seconds=lease_s)
    async with connected() as connection:
        done = await connection.execute(
            f"UPDATE batch_chunks SET lease_until = $4 WHERE {HELD_UNTIL}",  # noqa: S608
            chunk.batch_id,
            chunk.number,
            chunk.lease_token,
            until,
        )
    failpoints.hit("chunk.extended")
    return bool(done == "UPDATE 1")


async def lock_lease(connection: Any, chunk: Chunk) -> Any | None:
    """Returns the row of a leased chunk, locked, in a transaction that holds its batch.

    None where the lease is lost.
    """
    return await connection.fetchrow(
        f"SELECT * FROM batch_chunks WHERE {HELD_UNTIL} FOR UPDATE",  # noqa: S608
        chunk.batch_id,
        chunk.number,
        chunk.lease_token,
    )


async def give_back(chunk: Chunk, delay_s: float = 0.0) -> bool:
    """Ends a lease as planned: what has no outcome may be claimed again, and no death is counted.

    Args:
        chunk: as it was claimed.
        delay_s: how long it is not offered to anyone.

    Returns:
        False where the lease was lost before.

    Raises:
        DependencyDown: the database does not answer.
    """
    now = clock.now()
    async with transaction() as connection:
        batch = await lock_batch(connection, chunk.batch_id)
        row = await lock_lease(connection, chunk) if batch else None
        if row is None:
            return False
        await connection.execute(
            """
            UPDATE batch_chunks SET state = $3, lease_until = NULL, worker = '',
                available_at = coalesce($4, available_at)
            WHERE batch_id = $1 AND number = $2
            """,
            chunk.batch_id,
            chunk.number,
            resting_state(batch),
            now + timedelta(seconds=delay_s) if delay_s else None,
        )
        await settle(connection, chunk.batch_id, now)
    return True


async def record_crash(chunk: Chunk) -> bool:
    """Counts a death of the process that worked on the chunk, without waiting for the lease's end.

    For a worker that runs a suspect in a child process and sees it die.  Returns False where the
    lease was lost before.

    Raises:
        DependencyDown: the database does not answer.
    """
    now = clock.now()
    async with transaction() as connection:
        batch = await lock_batch(connection, chunk.batch_id)
        row = await lock_lease(connection, chunk) if batch else None
        if row is None:
            return False
        await count_worker_crash(connection, batch, row, now, is_seen=True)
        await settle(connection, chunk.batch_id, now)
    return True


async def fail_batch(chunk: Chunk, message: str) -> bool:
    """Ends the whole batch as FAILED, because it cannot run; returns False where the lease is lost.

    All leases of the batch are lost; outcomes written before stay.

    Raises:
        DependencyDown: the database does not answer.
    """
    now = clock.now()
    async with transaction() as connection:
        batch = await lock_batch(connection, chunk.batch_id)
        if batch is None or await lock_lease(connection, chunk) is None:
            return False
        await connection.execute(
            "UPDATE batch_chunks SET state = 'HELD', lease_until = NULL, worker = ''"
            " WHERE batch_id = $1 AND state IN ('READY', 'LEASED')",
            chunk.batch_id,
        )
        await end_batch(connection, chunk.batch_id, BatchState.FAILED, message, now)
    return True


async def expire(limit: int = 1000, excused_until: datetime | None = None) -> int:
    """Takes back chunks whose workers have said nothing for too long; returns how many.

    One process at a time: others find the lock taken and return 0.

    Args:
        limit: the most chunks, about.
        excused_until: leases that ended before count no death: the database was away, and their
            workers could say nothing.

    Raises:
        DependencyDown: the database does not answer.
    """
    now = clock.now()
    async with connected() as connection:
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", SWEEP_LOCK):
            return 0
        try:
            failpoints.hit("sweep.begun")
            batches = await connection.fetch(
                LATE,
                now,
                limit,
            )
            count = 0
            for batch in batches:
                count += await _expire_batch(connection, batch["batch_id"], now, excused_until)
        finally:
            await connection.execute("SELECT pg_advisory_unlock($1)", SWEEP_LOCK)
    failpoints.hit("sweep.expired")
    return count


async def _expire_batch(
    connection: Any, batch_id: str, now: datetime, excused_until: datetime | None
) -> int:
    async with connection.transaction():
        batch = await lock_batch(connection, batch_id)
        if batch is None:
            return 0
        rows = await connection.fetch(
            "SELECT * FROM batch_chunks WHERE batch_id = $1 AND state = 'LEASED'"
            " AND lease_until < $2 ORDER BY number FOR UPDATE",
            batch_id,
            now,
        )
        for row in rows:
            if excused_until and row["lease_until"] < excused_until:
                await end_lease(connection, batch, row)
            else:
                await count_worker_crash(connection, batch, row, now, is_seen=False)
        if not await settle(connection, batch_id, now) and rows:
            await leave(connection, OutboxKind.DOORBELL, batch["tenant_id"], batch_id, now, {})
    return len(rows)


async def count_waiting(now: datetime | None = None) -> int:
    """Returns how many items wait in chunks that may be claimed, over all tenants.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        return int(
            await connection.fetchval(
                "SELECT coalesce(sum(item_count - done_count), 0) FROM batch_chunks"
                " WHERE state = 'READY' AND available_at <= $1",
                now or clock.now(),
            )
        )
