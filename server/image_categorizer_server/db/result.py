"""Outcomes of items: written once each, and only by who holds the lease."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from image_categorizer_server import clock, failpoints
from image_categorizer_server.db.chunk import lock_lease
from image_categorizer_server.db.convert import (
    OK,
    RATE_WINDOW_S,
    predictions_to_json,
    result_from_row,
)
from image_categorizer_server.db.database import connected, transaction
from image_categorizer_server.db.deaths import note_item_crashed
from image_categorizer_server.db.locks import lock_batch, settle
from image_categorizer_server.domain.batch import Chunk, ItemOutcome, ItemResult
from image_categorizer_server.errors import ItemKilledServers

INSERT = """
INSERT INTO batch_results (batch_id, number, tenant_id, status, reason, message, predictions,
    model_name, model_version, model_digest, create_time)
SELECT $1::text, o.number, $2::text, o.status, o.reason, o.message, o.predictions::jsonb,
    o.model_name, o.model_version, o.model_digest, $3::timestamptz
FROM unnest($4::int[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::int[],
    $11::text[]) AS o (number, status, reason, message, predictions, model_name, model_version,
    model_digest)
WHERE o.number >= $12 AND o.number < $13
ON CONFLICT DO NOTHING
RETURNING number, status, reason
"""
# The rate is measured from the mark before the last: see `encoding._rate`.
COUNT = """
WITH chunk AS (
    UPDATE batch_chunks SET done_count = done_count + $3 + $4,
        state = CASE WHEN done_count + $3 + $4 = item_count THEN 'DONE' ELSE state END,
        lease_until = CASE WHEN done_count + $3 + $4 < item_count THEN lease_until END
    WHERE batch_id = $1 AND number = $2
)
UPDATE batches SET succeeded_count = succeeded_count + $3, failed_count = failed_count + $4,
    mark_time = CASE WHEN m.is_due THEN $5 ELSE mark_time END,
    mark_count = CASE WHEN m.is_due THEN succeeded_count + failed_count + $3 + $4
        ELSE mark_count END,
    last_mark_time = CASE WHEN m.is_due THEN mark_time ELSE last_mark_time END,
    last_mark_count = CASE WHEN m.is_due THEN mark_count ELSE last_mark_count END
FROM (SELECT coalesce(mark_time <= $6, true) AS is_due FROM batches WHERE batch_id = $1) m
WHERE batch_id = $1
"""
LIST = """
SELECT r.*, i.filename FROM batch_results r
JOIN batch_items i ON i.batch_id = r.batch_id AND i.number = r.number
WHERE r.batch_id = $1 AND r.tenant_id = $2 AND r.number > $3
ORDER BY r.number LIMIT $4
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


async def record(chunk: Chunk, outcomes: Sequence[ItemOutcome]) -> bool:
    """Writes outcomes of the chunk's items; the last ones end the chunk, and the batch.

    Outcomes that are written already stay as they are; those of items of other chunks are ignored.

    Returns:
        False where the lease was lost: nothing is written then.

    Raises:
        DependencyDown: the database does not answer. Whether the outcomes are written is
            not known then; writing them again is safe.
    """
    now = clock.now()
    async with transaction() as connection:
        batch = await lock_batch(connection, chunk.batch_id)
        row = await lock_lease(connection, chunk) if batch else None
        if row is None:
            return False
        written = await connection.fetch(
            INSERT,
            chunk.batch_id,
            chunk.tenant_id,
            now,
            *_columns(outcomes),
            row["first_item"],
            row["first_item"] + row["item_count"],
        )
        for failed in written:
            if failed["reason"] == ItemKilledServers.reason:
                await note_item_crashed(connection, batch, failed["number"], failed["reason"], now)
        succeeded = sum(r["status"] == OK for r in written)
        await _count(connection, chunk, succeeded, len(written) - succeeded, now)
        has_ended = await settle(connection, chunk.batch_id, now)
        failpoints.hit("results.writing")
    failpoints.hit("results.written")
    if has_ended:
        failpoints.hit("batch.ended")
    return True


async def _count(connection: Any, chunk: Chunk, succeeded: int, failed: int, now: datetime) -> None:
    since = datetime.fromtimestamp(now.timestamp() - RATE_WINDOW_S, now.tzinfo)
    await connection.execute(COUNT, chunk.batch_id, chunk.number, succeeded, failed, now, since)


def _columns(outcomes: Sequence[ItemOutcome]) -> list[list[Any]]:
    rows: list[tuple[Any, ...]] = []
    for outcome in outcomes:
        if outcome.error is not None:
            error = outcome.error
            rows.append(
                (outcome.number, error.status, error.reason, error.message, None, "", 0, "")
            )
        else:
            assert outcome.classification is not None
            model = outcome.classification.model
            predictions = predictions_to_json(outcome.classification.predictions)
            rows.append(
                (outcome.number, OK, "", "", predictions, model.name, model.version, model.digest)
            )
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(8)]


async def list_results(tenant_id: str, batch_id: str, after: int, limit: int) -> list[ItemResult]:
    """Returns the outcomes that there are of items with a number greater than `after`, by number.

    Args:
        tenant_id: whose batch it must be; another's has no results.
        batch_id: the batch.
        after: -1 for the start.
        limit: the most results.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(
            LIST,
            batch_id,
            tenant_id,
            after,
            limit,
        )
    return [result_from_row(row) for row in rows]


async def list_failures(
    tenant_id: str, batch_ids: Sequence[str], limit: int
) -> dict[str, tuple[ItemResult, ...]]:
    """Returns of each batch the first failures by number, at most `limit`.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(
            FAILURES,
            list(batch_ids),
            tenant_id,
            limit,
        )
    failures: dict[str, list[ItemResult]] = {}
    for row in rows:
        failures.setdefault(row["batch_id"], []).append(result_from_row(row))
    return {batch_id: tuple(found) for batch_id, found in failures.items()}
