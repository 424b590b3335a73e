"""The outbox: work that a transaction leaves to be done after its commit."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from image_categorizer_server import clock
from image_categorizer_server.db.database import (
    BULK_TIMEOUT_S,
    Connection,
    connected,
    transaction,
)
from image_categorizer_server.db.locks import lock_tenant_images
from image_categorizer_server.db.tables import OutboxTableRow
from image_categorizer_server.domain.classification import Classification
from image_categorizer_server.domain.outbox import OutboxKind, OutboxRow

TAKE = """
UPDATE outbox SET take_after = $3 WHERE outbox_id IN (
    SELECT outbox_id FROM outbox
    WHERE kind = ANY($1) AND done_time IS NULL AND take_after <= $2
        AND ($5::text IS NULL OR batch_id = $5)
    ORDER BY outbox_id LIMIT $4 FOR UPDATE SKIP LOCKED)
RETURNING *
"""
FORGET = """
DELETE FROM outbox WHERE outbox_id IN (
    SELECT outbox_id FROM outbox WHERE done_time < $1 ORDER BY done_time LIMIT $2
    FOR UPDATE SKIP LOCKED)
RETURNING outbox_id
"""
ADD_IMAGES = """
INSERT INTO outbox (tenant_id, kind, batch_id, payload, create_time, take_after)
SELECT $2::text, 'blobs', $1, jsonb_build_object('keys', jsonb_agg(object_key)),
    $3::timestamptz, $3::timestamptz
FROM (SELECT object_key, row_number() OVER () / $4::int AS page
      FROM (SELECT DISTINCT object_key FROM batch_items
            WHERE batch_id = $1 AND object_key IS NOT NULL) k) pages
GROUP BY page
"""
# The oldest images to remove, of a tenant that uploads nothing at the moment.
NEXT_IMAGES = """
SELECT outbox_id, tenant_id, payload FROM outbox o
WHERE kind = 'blobs' AND done_time IS NULL AND NOT EXISTS (
    SELECT FROM batch_uploads u WHERE u.tenant_id = o.tenant_id)
ORDER BY outbox_id LIMIT 1 FOR UPDATE SKIP LOCKED
"""
UNREFERENCED = """
SELECT k.key FROM unnest($1::text[]) AS k (key)
WHERE NOT EXISTS (SELECT FROM batch_items i WHERE i.object_key = k.key)
"""
COUNT_PENDING = """
SELECT
    (SELECT count(*) FROM batch_chunks WHERE state IN ('READY', 'LEASED')) AS chunks,
    (SELECT count(*) FROM outbox WHERE done_time IS NULL) AS messages,
    (SELECT count(*) FROM webhook_deliveries WHERE state = 'PENDING') AS deliveries
"""
# Predictions in one message.  Standard Webhooks asks for payloads below 20 KB.
MAX_PREDICTIONS = 20
# Keys of images in one row.
KEYS_PER_ROW = 1000


async def add(
    connection: Connection,
    kind: OutboxKind,
    tenant_id: str,
    batch_id: str,
    now: datetime,
    payload: Mapping[str, object] | None = None,
) -> None:
    """Adds a row, which others see once the open transaction commits."""
    await connection.execute(
        "INSERT INTO outbox (tenant_id, kind, batch_id, payload, create_time, take_after)"
        " VALUES ($1, $2, $3, $4, $5, $5)",
        tenant_id,
        kind.value,
        batch_id,
        json.dumps(payload or {}),
        now,
    )


async def add_images(
    connection: Connection, tenant_id: str, batch_id: str, now: datetime, keys: Sequence[str]
) -> None:
    """Adds images of a batch, to be removed unless a batch refers to them."""
    for start in range(0, len(keys), KEYS_PER_ROW):
        page = {"keys": list(keys[start : start + KEYS_PER_ROW])}
        await add(connection, OutboxKind.BLOBS, tenant_id, batch_id, now, page)


async def add_all_images(
    connection: Connection, tenant_id: str, batch_id: str, now: datetime
) -> None:
    """Adds all images of a batch, to be removed unless another batch refers to them."""
    await connection.execute(
        ADD_IMAGES, batch_id, tenant_id, now, KEYS_PER_ROW, timeout=BULK_TIMEOUT_S
    )


async def add_classification(
    tenant_id: str, webhook_url: str, request_id: str, classification: Classification
) -> None:
    """Adds a message about one image's classification to an address of the caller's.

    Raises:
        DependencyDown: the database does not answer.
    """
    now, model = clock.now(), classification.model
    payload = {
        "type": "classification.done",
        "webhook_url": webhook_url,
        "end_time": now.isoformat(),
        "request_id": request_id,
        "model": {"name": model.name, "version": str(model.version), "digest": model.digest},
        "predictions": [
            {
                "category": p.category.name,
                "confidence": p.confidence,
                "category_id": p.category.category_id,
                "ancestors": p.category.ancestors,
                "bounding_box": p.bounding_box or (),
            }
            for p in classification.predictions[:MAX_PREDICTIONS]
        ],
        "warnings": classification.warnings,
    }
    async with connected() as connection:
        await add(connection, OutboxKind.WEBHOOK, tenant_id, "", now, payload)


async def take(
    kinds: Sequence[OutboxKind], limit: int, lease_s: float = 30.0, batch_id: str | None = None
) -> list[OutboxRow]:
    """Leases rows that are not done, the oldest first.

    A row that is not passed to `done` within the lease is offered again, so its work must be
    idempotent.

    Args:
        kinds: the kinds of rows.
        limit: the maximum number of rows.
        lease_s: how long nobody else gets the rows.
        batch_id: only rows of this batch; None for all.

    Raises:
        DependencyDown: the database does not answer.
    """
    now = clock.now()
    async with connected() as connection:
        found = await connection.fetch(
            TAKE,
            [kind.value for kind in kinds],
            now,
            now + timedelta(seconds=lease_s),
            limit,
            batch_id,
        )
    rows = cast("Sequence[OutboxTableRow]", found)
    return [
        OutboxRow(
            outbox_id=row["outbox_id"],
            tenant_id=row["tenant_id"],
            kind=OutboxKind(row["kind"]),
            batch_id=row["batch_id"],
            payload=json.loads(row["payload"]),
            create_time=row["create_time"],
        )
        for row in sorted(rows, key=lambda row: row["outbox_id"])
    ]


async def done(ids: Sequence[int]) -> None:
    """Marks rows as done: webhook rows are kept, the others removed.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        await connection.execute(
            "UPDATE outbox SET done_time = $2 WHERE outbox_id = ANY($1::bigint[])"
            " AND kind = 'webhook' AND done_time IS NULL",
            list(ids),
            clock.now(),
        )
        await connection.execute(
            "DELETE FROM outbox WHERE outbox_id = ANY($1::bigint[]) AND kind <> 'webhook'",
            list(ids),
        )


async def forget(done_before: datetime, limit: int) -> int:
    """Removes rows that were done before a time, the oldest first; returns how many.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        return len(await connection.fetch(FORGET, done_before, limit))


@asynccontextmanager
async def unreferenced_images() -> AsyncIterator[list[str] | None]:
    """Yields keys of images to remove, and removes their row when the block succeeds.

    The images belong to batches that were removed and to uploads that broke off.  While a tenant
    uploads, its images stay: an upload may rely on an image to which no row refers yet.  While the
    block runs, no upload of the tenant begins.  Yields None if there is nothing to remove.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        found = await connection.fetchrow(NEXT_IMAGES)
        if found is None:
            yield None
            return
        row = cast("OutboxTableRow", found)
        await lock_tenant_images(connection, row["tenant_id"])
        # An upload may have begun between the query and the lock.
        if await connection.fetchval(
            "SELECT EXISTS (SELECT FROM batch_uploads WHERE tenant_id = $1)", row["tenant_id"]
        ):
            yield None
            return
        yield await _unreferenced(connection, json.loads(row["payload"])["keys"])
        await connection.execute("DELETE FROM outbox WHERE outbox_id = $1", row["outbox_id"])


async def find_unreferenced(keys: Sequence[str]) -> list[str]:
    """Returns those of the keys to which no item refers now.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        return await _unreferenced(connection, keys)


async def _unreferenced(connection: Connection, keys: Sequence[str]) -> list[str]:
    return [str(row["key"]) for row in await connection.fetch(UNREFERENCED, list(keys))]


@dataclass(frozen=True, slots=True)
class Pending:
    """How much work is not finished, over all tenants."""

    chunks: int
    """Chunks of running batches: ready or leased."""
    messages: int
    """Rows of the outbox: workers to notify, webhooks to send, images to remove."""
    deliveries: int
    """Deliveries of webhooks, to be attempted now or later."""

    @property
    def is_any(self) -> bool:
        """Whether anything is not finished."""
        return bool(self.chunks or self.messages or self.deliveries)

    def __str__(self) -> str:
        return (
            f"{self.chunks} chunks of batches, {self.messages} messages in the outbox, "
            f"{self.deliveries} deliveries of webhooks"
        )


async def count_pending() -> Pending:
    """Returns how much is not finished, counted at one moment.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        row = await connection.fetchrow(COUNT_PENDING)
    return Pending(**cast("Mapping[str, int]", row))
