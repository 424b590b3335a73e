"""Chunks: leased by workers, given back, isolated after crashes.

A chunk is READY, LEASED, HELD (its batch was cancelled or failed) or DONE.  A lease has a token.  A
worker whose lease has passed to another one can write nothing more.

Whoever crashes over a chunk is traced to a single item:

    a worker crashes ─▶ the chunk runs again ─▶ crashes again ─▶ a chunk for each item, isolated
                                                                  └─▶ crashes again ─▶ it fails
"""

import asyncio
import random
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import cast

from image_categorizer_server import clock, failpoints
from image_categorizer_server.db import audit, outbox, usage
from image_categorizer_server.db.batch import finish, finish_if_done
from image_categorizer_server.db.convert import (
    crash_counts_from_json,
    item_from_row,
    options_from_json,
)
from image_categorizer_server.db.database import (
    Connection,
    connected,
    transaction,
    transaction_on,
)
from image_categorizer_server.db.locks import (
    ISOLATION_LOCK,
    SWEEP_LOCK,
    lock_batch,
    try_lock,
    unlock,
)
from image_categorizer_server.db.tables import BatchRow, ChunkRow, ItemRow
from image_categorizer_server.domain.audit import AuditAction
from image_categorizer_server.domain.batch import BatchState, Chunk
from image_categorizer_server.domain.outbox import OutboxKind
from image_categorizer_server.domain.usage import Usage, UsageKey
from image_categorizer_server.errors import ItemKilledWorkers

# After so many crashes each item of the chunk gets a chunk of its own.
ISOLATE_AFTER_CRASHES = 2
# After so many an isolated item fails: its parent process saw the child crash.
FAIL_AFTER_CRASHES = 3
# Where the parent is gone as well, something else may have ended both, so more crashes are needed.
FAIL_AFTER_UNSEEN_CRASHES = 10
ISOLATION_POLL_S = 0.01, 0.1

# The tenant with the fewest leased chunks goes first.  `waiting` walks the index from tenant to
# tenant, so its cost does not depend on the number of chunks.  Ties are broken at random, or one
# tenant would always win.  Batches of suspended tenants wait.
CLAIM = """
WITH RECURSIVE waiting AS (
    (SELECT tenant_id FROM batch_chunks WHERE state = 'READY' ORDER BY tenant_id LIMIT 1)
    UNION ALL
    SELECT (SELECT c.tenant_id FROM batch_chunks c
            WHERE c.state = 'READY' AND c.tenant_id > w.tenant_id ORDER BY c.tenant_id LIMIT 1)
    FROM waiting w WHERE w.tenant_id IS NOT NULL
), busy AS (
    SELECT tenant_id, count(*) AS chunks FROM batch_chunks WHERE state = 'LEASED' GROUP BY 1
), ordered AS MATERIALIZED (
    SELECT w.tenant_id FROM waiting w LEFT JOIN busy USING (tenant_id)
    WHERE w.tenant_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM tenants t WHERE t.tenant_id = w.tenant_id AND t.state <> 'ACTIVE')
    ORDER BY coalesce(busy.chunks, 0), random()
), picked AS MATERIALIZED (
    SELECT next.batch_id, next.number FROM ordered o CROSS JOIN LATERAL (
        SELECT c.batch_id, c.number FROM batch_chunks c
        WHERE c.tenant_id = o.tenant_id AND c.state = 'READY' AND c.available_at <= $1
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
SELECT i.number, i.filename, i.object_key, i.image_uri, i.size_bytes, i.blur FROM batch_items i
WHERE i.batch_id = $1 AND i.number >= $2 AND i.number < $3
    AND NOT EXISTS (SELECT FROM batch_results r WHERE r.batch_id = $1 AND r.number = i.number)
ORDER BY i.number
"""
START_BATCH = """
UPDATE batches
SET state = CASE state WHEN 'QUEUED' THEN 'RUNNING' ELSE state END, start_time = $2,
    mark_time = $2, mark_count = succeeded_count + failed_count
WHERE batch_id = $1 AND start_time IS NULL AND state IN ('QUEUED', 'CANCELLING')
"""
LEASE = "batch_id = $1 AND number = $2 AND state = 'LEASED' AND lease_token = $3"
EXTEND = f"UPDATE batch_chunks SET lease_until = $4 WHERE {LEASE}"  # noqa: S608 - constants
END_LEASE = """
UPDATE batch_chunks SET state = $3, lease_until = NULL, worker = '', worker_crashes = $4,
    available_at = coalesce($5, available_at)
WHERE batch_id = $1 AND number = $2
"""
LOST = """
SELECT * FROM batch_chunks
WHERE state = 'LEASED' AND worker = $1 AND NOT (lease_token = ANY($2::bigint[]))
"""
BATCHES_WITH_ENDED_LEASES = """
SELECT DISTINCT batch_id FROM (
    SELECT batch_id FROM batch_chunks
    WHERE state = 'LEASED' AND lease_until < $1 ORDER BY lease_until LIMIT $2) ended
"""
ENDED_LEASES = """
SELECT * FROM batch_chunks WHERE batch_id = $1 AND state = 'LEASED' AND lease_until < $2
ORDER BY number FOR UPDATE
"""
ISOLATE_ITEMS = """
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
# The chunk keeps what is done of it: the rest has chunks of its own now.
CLOSE = """
UPDATE batch_chunks
SET state = 'DONE', item_count = done_count, lease_until = NULL, worker_crashes = $3
WHERE batch_id = $1 AND number = $2
"""
FAIL_ITEM = """
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
COUNT_SERVER_CRASHES = f"""
UPDATE batch_chunks
SET server_crashes = server_crashes || (
    SELECT jsonb_object_agg(n, coalesce((server_crashes->>n)::int, 0) + 1)
    FROM unnest($4::text[]) AS n)
WHERE {LEASE}
RETURNING server_crashes
"""  # noqa: S608 - constants


async def claim(worker: str, lease_s: float) -> Chunk | None:
    """Leases the next chunk; returns None if none is ready.

    The tenant with the fewest leased chunks goes first.  Of its batches the one with the highest
    priority goes first, then the oldest.

    Args:
        worker: the name of the caller, which no other process has or had.
        lease_s: how long the lease lasts unless it is extended.

    Raises:
        DependencyDown: the database does not answer.  A chunk may be leased all the same: see
            `give_back_lost`.
    """
    now = clock.now()
    async with connected() as connection:
        claimed = await connection.fetchrow(CLAIM, now, now + timedelta(seconds=lease_s), worker)
        if claimed is None:
            return None
        failpoints.hit("chunk.claimed")
        chunk = cast("ChunkRow", claimed)
        found = await connection.fetchrow(
            "SELECT * FROM batches WHERE batch_id = $1", chunk["batch_id"]
        )
        if found is None:  # failed and deleted since the claim
            return None
        batch = cast("BatchRow", found)
        if batch["start_time"] is None:
            # In a transaction of its own: whoever holds a chunk must not wait for its batch.
            await connection.execute(START_BATCH, chunk["batch_id"], now)
        end = chunk["first_item"] + chunk["item_count"]
        items = await connection.fetch(ITEMS, chunk["batch_id"], chunk["first_item"], end)
    return Chunk(
        batch_id=chunk["batch_id"],
        number=chunk["number"],
        tenant_id=chunk["tenant_id"],
        lease_token=chunk["lease_token"],
        key_id=batch["created_by"],
        options=options_from_json(batch["options"]),
        items=tuple(item_from_row(item) for item in cast("Sequence[ItemRow]", items)),
        worker_crashes=chunk["worker_crashes"],
        is_isolated=chunk["is_isolated"],
        server_crashes=crash_counts_from_json(chunk["server_crashes"]),
        traceparent=batch["traceparent"],
    )


async def extend(chunk: Chunk, lease_s: float) -> bool:
    """Makes the lease last `lease_s` from now; returns False if it is lost.

    Raises:
        DependencyDown: the database does not answer.
    """
    until = clock.now() + timedelta(seconds=lease_s)
    async with connected() as connection:
        done = await connection.execute(
            EXTEND, chunk.batch_id, chunk.number, chunk.lease_token, until
        )
    failpoints.hit("chunk.extended")
    return done == "UPDATE 1"


async def lock_lease(
    connection: Connection, batch_id: str, number: int, lease_token: int
) -> ChunkRow | None:
    """Locks the row of a leased chunk; returns None if the lease is lost.

    The transaction has locked the batch.
    """
    row = await connection.fetchrow(
        f"SELECT * FROM batch_chunks WHERE {LEASE} FOR UPDATE",  # noqa: S608 - constants
        batch_id,
        number,
        lease_token,
    )
    return cast("ChunkRow | None", row)


async def give_back(chunk: Chunk, delay_s: float = 0.0) -> bool:
    """Ends a lease without a crash; items that have no outcome can be claimed again.

    Args:
        chunk: the chunk as it was claimed.
        delay_s: how long nobody can claim it.

    Returns:
        False if the lease was lost before.

    Raises:
        DependencyDown: the database does not answer.
    """
    return await _give_back(chunk.batch_id, chunk.number, chunk.lease_token, delay_s)


async def give_back_lost(worker: str, held: Collection[int]) -> int:
    """Gives back chunks that are leased to a worker which does not know it; returns how many.

    A claim leaves such a chunk if its answer was lost, or if it was cut off half way.

    Args:
        worker: the name of the caller, which no other process has or had.
        held: the lease tokens of the chunks that the caller knows.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        found = await connection.fetch(LOST, worker, list(held))
    for row in cast("Sequence[ChunkRow]", found):
        await _give_back(row["batch_id"], row["number"], row["lease_token"])
    return len(found)


async def _give_back(batch_id: str, number: int, lease_token: int, delay_s: float = 0.0) -> bool:
    now = clock.now()
    async with transaction() as connection:
        batch = await lock_batch(connection, batch_id)
        row = await lock_lease(connection, batch_id, number, lease_token) if batch else None
        if batch is None or row is None:
            return False
        available_at = now + timedelta(seconds=delay_s) if delay_s else None
        await _end_lease(connection, batch, row, row["worker_crashes"], available_at)
        await finish_if_done(connection, batch_id, now)
    return True


async def record_crash(chunk: Chunk) -> bool:
    """Counts a crash of the process that worked on the chunk, and ends the lease at once.

    For a worker that runs an isolated chunk in a child process and sees the child crash.  Returns
    False if the lease was lost before.

    Raises:
        DependencyDown: the database does not answer.
    """
    now = clock.now()
    async with transaction() as connection:
        batch = await lock_batch(connection, chunk.batch_id)
        row = await lock_lease(connection, chunk.batch_id, chunk.number, chunk.lease_token)
        if batch is None or row is None:
            return False
        await _count_crash(connection, batch, row, now, is_seen=True)
        await finish_if_done(connection, chunk.batch_id, now)
    return True


async def fail_batch(chunk: Chunk, message: str) -> bool:
    """Ends the whole batch as FAILED because it cannot run; returns False if the lease is lost.

    All leases of the batch are lost; outcomes written before stay.

    Raises:
        DependencyDown: the database does not answer.
    """
    now = clock.now()
    async with transaction() as connection:
        batch = await lock_batch(connection, chunk.batch_id)
        row = await lock_lease(connection, chunk.batch_id, chunk.number, chunk.lease_token)
        if batch is None or row is None:
            return False
        await connection.execute(
            "UPDATE batch_chunks SET state = 'HELD', lease_until = NULL, worker = ''"
            " WHERE batch_id = $1 AND state IN ('READY', 'LEASED')",
            chunk.batch_id,
        )
        await finish(connection, chunk.batch_id, BatchState.FAILED, message, now)
    return True


async def expire(limit: int = 1000, excused_until: datetime | None = None) -> int:
    """Ends leases that were not extended in time; returns how many.

    One process does so at a time; in the others the call returns 0.

    Args:
        limit: the approximate maximum number of leases.
        excused_until: leases that ended before this time count no crash: the database was away, and
            no worker could extend them.

    Raises:
        DependencyDown: the database does not answer.
    """
    now = clock.now()
    async with connected() as connection:
        if not await try_lock(connection, SWEEP_LOCK):
            return 0
        try:
            failpoints.hit("sweep.begun")
            count = 0
            for batch in await connection.fetch(BATCHES_WITH_ENDED_LEASES, now, limit):
                count += await _expire_batch(connection, str(batch["batch_id"]), now, excused_until)
        finally:
            await unlock(connection, SWEEP_LOCK)
    failpoints.hit("sweep.expired")
    return count


async def _expire_batch(
    connection: Connection, batch_id: str, now: datetime, excused_until: datetime | None
) -> int:
    async with transaction_on(connection):
        batch = await lock_batch(connection, batch_id)
        if batch is None:
            return 0
        rows = cast("Sequence[ChunkRow]", await connection.fetch(ENDED_LEASES, batch_id, now))
        for row in rows:
            assert row["lease_until"] is not None
            if excused_until and row["lease_until"] < excused_until:
                await _end_lease(connection, batch, row, row["worker_crashes"])
            else:
                await _count_crash(connection, batch, row, now, is_seen=False)
        if not await finish_if_done(connection, batch_id, now) and rows:
            await outbox.add(connection, OutboxKind.DOORBELL, batch["tenant_id"], batch_id, now)
    return len(rows)


async def _end_lease(
    connection: Connection,
    batch: BatchRow,
    chunk: ChunkRow,
    worker_crashes: int,
    available_at: datetime | None = None,
) -> None:
    await connection.execute(
        END_LEASE,
        chunk["batch_id"],
        chunk["number"],
        _unleased_state(batch),
        worker_crashes,
        available_at,
    )


async def _count_crash(
    connection: Connection, batch: BatchRow, chunk: ChunkRow, now: datetime, *, is_seen: bool
) -> None:
    """Ends the lease of a chunk whose process crashed; the transaction has locked both rows.

    Args:
        connection: has the transaction open.
        batch: the row of the batch.
        chunk: the row of the chunk.
        now: the current time.
        is_seen: whether another process saw the crash; otherwise the lease ended in silence.
    """
    key = (chunk["batch_id"], chunk["number"])
    crashes = chunk["worker_crashes"] + 1
    fail_after = FAIL_AFTER_CRASHES if is_seen else FAIL_AFTER_UNSEEN_CRASHES
    if crashes >= fail_after and chunk["is_isolated"]:
        error = ItemKilledWorkers(f"{crashes} processes died while they worked on it")
        await connection.execute(FAIL_ITEM, *key, error.status, error.reason, error.message, now)
        await record_item_crash(connection, batch, chunk["first_item"], error.reason, now)
        model = options_from_json(batch["options"]).model
        used = UsageKey(batch["tenant_id"], now.date(), batch["created_by"], model)
        await usage.add(connection, {used: Usage(images=1, failed=1)})
    elif crashes >= ISOLATE_AFTER_CRASHES and not chunk["is_isolated"]:
        await connection.execute(ISOLATE_ITEMS, *key, _unleased_state(batch), crashes)
        await connection.execute(CLOSE, *key, crashes)
    else:
        await _end_lease(connection, batch, chunk, crashes)


def _unleased_state(batch: BatchRow) -> str:
    """Returns the state of a chunk whose lease ended: READY only while the batch runs."""
    return "READY" if batch["state"] in ("QUEUED", "RUNNING") else "HELD"


async def record_item_crash(
    connection: Connection, batch: BatchRow, number: int, reason: str, now: datetime
) -> None:
    """Adds to the audit that an item failed because processes crash over it.

    Args:
        connection: has the transaction open in which the item fails.
        batch: the row of the batch.
        number: the number of the item.
        reason: the reason of its error.
        now: the current time.
    """
    names = (batch["tenant_id"], AuditAction.BATCH_ITEM_CRASHED, batch["batch_id"])
    await audit.record_event(connection, *names, now, number=number, reason=reason)


async def count_server_crashes(chunk: Chunk, numbers: Collection[int]) -> dict[int, int] | None:
    """Counts that the server crashed while it had these items; returns all counts of the chunk.

    The counts stay with the chunk, whoever leases it next.  Returns None if the lease is lost.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        counts = await connection.fetchval(
            COUNT_SERVER_CRASHES,
            chunk.batch_id,
            chunk.number,
            chunk.lease_token,
            [str(number) for number in numbers],
        )
    return None if counts is None else crash_counts_from_json(str(counts))


@asynccontextmanager
async def isolation() -> AsyncIterator[None]:
    """Waits until no other process isolates an image, and keeps others waiting during the block.

    Otherwise an image that crashes the server would put the images of other workers under
    suspicion.  PostgreSQL releases the lock of a process that dies in the block.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        # Polled: the statement timeout would cut off a statement that waits for the lock.
        while not await try_lock(connection, ISOLATION_LOCK):  # noqa: ASYNC110 - see above
            await asyncio.sleep(random.uniform(*ISOLATION_POLL_S))  # noqa: S311 - not a secret
        try:
            yield
        finally:
            await unlock(connection, ISOLATION_LOCK)
