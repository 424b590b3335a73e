"""Outcomes of items: each is written once, and only by the holder of the lease."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Protocol, cast

from image_categorizer_server import clock, failpoints
from image_categorizer_server.db import usage
from image_categorizer_server.db.batch import finish_if_done
from image_categorizer_server.db.chunk import lock_lease, record_item_crash
from image_categorizer_server.db.convert import (
    OK,
    RATE_WINDOW_S,
    predictions_from_json,
    predictions_to_json,
    result_from_row,
)
from image_categorizer_server.db.database import connected, transaction
from image_categorizer_server.db.locks import lock_batch
from image_categorizer_server.db.tables import ResultRow
from image_categorizer_server.domain.batch import Chunk, ItemError, ItemOutcome, ItemResult
from image_categorizer_server.domain.classification import CacheStatus
from image_categorizer_server.domain.usage import Usage, UsageKey
from image_categorizer_server.errors import (
    BatchNotFound,
    ItemKilledServers,
    NotFound,
    ResultErased,
)

INSERT = """
INSERT INTO batch_results (batch_id, number, tenant_id, status, reason, message, predictions,
    model_name, model_version, model_digest, warnings, sealed, create_time)
SELECT $1::text, o.number, $2::text, o.status, o.reason, o.message, o.predictions::jsonb,
    o.model_name, o.model_version, o.model_digest, string_to_array(o.warnings, ','), o.sealed,
    $3::timestamptz
FROM unnest($4::int[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::int[],
    $11::text[], $12::text[], $13::bytea[]) AS o (number, status, reason, message, predictions,
    model_name, model_version, model_digest, warnings, sealed)
WHERE o.number >= $14 AND o.number < $15
ON CONFLICT DO NOTHING
RETURNING number, status, reason
"""
# Marks say how many items were done at a moment; `convert.rate_of` measures from them.
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
WHERE r.batch_id = $1 AND r.tenant_id = $2 AND r.number > $3::bigint
ORDER BY r.number LIMIT $4
"""
EXISTS = "SELECT EXISTS (SELECT FROM batches WHERE batch_id = $1 AND tenant_id = $2)"

# The columns of an answer, of an item without one.
NO_ANSWER = (None, "", 0, "", "", None)


class Sealing(Protocol):
    """Encrypts what is stored; see `stores/sealing.py`."""

    @property
    def is_on(self) -> bool:
        """Whether it encrypts."""

    async def seal(self, key: str, content: bytes) -> bytes:
        """Encrypts what is stored by a key."""
        ...

    async def open(self, key: str, stored: bytes) -> bytes:
        """Decrypts it."""
        ...


async def record(
    chunk: Chunk, outcomes: Sequence[ItemOutcome], sealing: Sealing | None = None
) -> bool:
    """Writes outcomes of the chunk's items; the last ones end the chunk, and the batch.

    An outcome that is written already stays as it is.  Outcomes of items of other chunks are
    ignored.

    Args:
        chunk: with its lease.
        outcomes: of some of its items.
        sealing: encrypts the predictions; None for no encryption.

    Returns:
        False if the lease is lost: then nothing is written.

    Raises:
        DependencyDown: the database does not answer.  The outcomes may be written all the same;
            writing them again is safe.
    """
    columns = await _columns(chunk, outcomes, sealing)
    now = clock.now()
    async with transaction() as connection:
        batch = await lock_batch(connection, chunk.batch_id)
        row = await lock_lease(connection, chunk.batch_id, chunk.number, chunk.lease_token)
        if batch is None or row is None:
            return False
        found = await connection.fetch(
            INSERT,
            chunk.batch_id,
            chunk.tenant_id,
            now,
            *columns,
            row["first_item"],
            row["first_item"] + row["item_count"],
        )
        written = cast("Sequence[ResultRow]", found)
        for result in written:
            if result["reason"] == ItemKilledServers.reason:
                await record_item_crash(connection, batch, result["number"], result["reason"], now)
        await usage.add(connection, _used(chunk, batch["created_by"], outcomes, written, now))
        succeeded = sum(result["status"] == OK for result in written)
        await connection.execute(
            COUNT,
            chunk.batch_id,
            chunk.number,
            succeeded,
            len(written) - succeeded,
            now,
            now - timedelta(seconds=RATE_WINDOW_S),
        )
        has_ended = await finish_if_done(connection, chunk.batch_id, now)
        failpoints.hit("results.writing")
    failpoints.hit("results.written")
    if has_ended:
        failpoints.hit("batch.ended")
    return True


def _used(
    chunk: Chunk,
    key_id: str,
    outcomes: Sequence[ItemOutcome],
    written: Sequence[ResultRow],
    now: datetime,
) -> dict[UsageKey, Usage]:
    """Returns the usage of the items whose outcomes were written, each for the first time.

    Servers count the time of models themselves.
    """
    sizes = {item.number: item.size_bytes or 0 for item in chunk.items}
    by_number = {outcome.number: outcome for outcome in outcomes}
    used: dict[UsageKey, Usage] = {}
    for result in written:
        number = result["number"]
        answer = by_number[number].classification
        model = answer.model.name if answer else chunk.options.model
        sums = used.setdefault(UsageKey(chunk.tenant_id, now.date(), key_id, model), Usage())
        is_hit = answer is not None and answer.cache is CacheStatus.HIT
        sums += Usage(1, int(is_hit), int(answer is None), sizes[number])
    return used


async def _columns(
    chunk: Chunk, outcomes: Sequence[ItemOutcome], sealing: Sealing | None
) -> list[list[object]]:
    rows: list[tuple[object, ...]] = []
    for outcome in outcomes:
        number = outcome.number
        if outcome.error is not None:
            error = outcome.error
            rows.append((number, error.status, error.reason, error.message, *NO_ANSWER))
            continue
        assert outcome.classification is not None
        model = outcome.classification.model
        text = predictions_to_json(outcome.classification.predictions)
        sealed: bytes | None = None
        if sealing is not None and sealing.is_on:
            key = _key_of(chunk.tenant_id, chunk.batch_id, number)
            sealed = await sealing.seal(key, text.encode())
        clear = text if sealed is None else None
        warnings = ",".join(outcome.classification.warnings)
        answer = clear, model.name, model.version, model.digest, warnings, sealed
        rows.append((number, OK, "", "", *answer))
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(10)]


def _key_of(tenant_id: str, batch_id: str, number: int) -> str:
    """Returns what the predictions of an item are bound to: nobody can put them in another row."""
    return f"{tenant_id}/results/{batch_id}/{number}"


async def list_results(
    tenant_id: str, batch_id: str, after: int, limit: int, sealing: Sealing | None = None
) -> list[ItemResult]:
    """Returns outcomes of items with a number greater than `after`, by number.

    A batch that is deleted meanwhile is not found: its reader must not take what is left of it for
    all of it.

    Args:
        tenant_id: the tenant.
        batch_id: the batch.
        after: -1 for the first page.
        limit: the maximum number of results.
        sealing: decrypts predictions; None for no encryption.

    Raises:
        BatchNotFound: the tenant has no such batch.
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(LIST, batch_id, tenant_id, after, limit)
        # Afterwards: a deletion removes the row of the batch first.
        if not await connection.fetchval(EXISTS, batch_id, tenant_id):
            raise BatchNotFound("no such batch")
    return [await _result(row, sealing) for row in cast("Sequence[ResultRow]", rows)]


async def _result(row: ResultRow, sealing: Sealing | None) -> ItemResult:
    """Returns an outcome.  One whose key was erased is an error of its item."""
    sealed = row["sealed"]
    if sealed is None:
        return result_from_row(row)
    text: bytes | None = None
    if sealing is not None:
        with suppress(NotFound):
            key = _key_of(row["tenant_id"], row["batch_id"], row["number"])
            text = await sealing.open(key, sealed)
    if text is None:
        lost = ResultErased("what the model found was erased, or its key is missing")
        error = ItemError(lost.status, lost.reason, lost.message)
        return ItemResult(row["number"], row["filename"], (), None, error)
    return result_from_row(row, predictions_from_json(text.decode()))
