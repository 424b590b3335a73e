"""The outbox: what transactions left to be done after them."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from image_categorizer_server import clock
from image_categorizer_server.db.database import connected, transaction
from image_categorizer_server.db.locks import leave
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
UNREFERENCED = """
SELECT k.key FROM unnest($1::text[]) AS k (key)
WHERE NOT EXISTS (SELECT FROM batch_items i WHERE i.object_key = k.key)
"""
# Predictions in one message: receivers take small ones, by Standard Webhooks less than 20 KB.
MOST_TOLD = 20
# Between who removes a tenant's images and who is about to rely on them.
TENANT_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1, 7247969))"


async def take(
    kinds: Sequence[OutboxKind], limit: int, lease_s: float = 30.0, batch_id: str | None = None
) -> list[OutboxRow]:
    """Returns rows that are to be done, the oldest first, and offers them to nobody for `lease_s`.

    What is not reported by `done` in that time is offered again: doing it must be idempotent.

    Args:
        kinds: which kinds.
        limit: the most rows.
        lease_s: how long they are the caller's.
        batch_id: only those of this batch; None: all.

    Raises:
        DependencyDown: the database does not answer.
    """
    now = clock.now()
    async with connected() as connection:
        rows = await connection.fetch(
            TAKE,
            [kind.value for kind in kinds],
            now,
            now + timedelta(seconds=lease_s),
            limit,
            batch_id,
        )
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


async def add_classification(
    tenant_id: str, webhook_url: str, request_id: str, classification: Classification
) -> None:
    """Leaves that an address is to be told of one image's categories.

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
            for p in classification.predictions[:MOST_TOLD]
        ],
    }
    async with connected() as connection:
        await leave(connection, OutboxKind.WEBHOOK, tenant_id, "", now, payload)


async def done(ids: Sequence[int]) -> None:
    """Marks rows as done; those of webhooks are kept, of the others nothing remains.

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
    """Removes at most `limit` rows that were done before, the oldest first; returns how many.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        return len(await connection.fetch(FORGET, done_before, limit))


@asynccontextmanager
async def unreferenced_blobs() -> AsyncIterator[list[str] | None]:
    """Yields object keys that no batch refers to, and forgets them where the block succeeds.

    They come from batches that were removed and from uploads that broke off.  While a tenant
    uploads, its keys wait: an upload may rely on an image that no row refers to yet.  While the
    block runs, none of the tenant's uploads begins.  None: nothing waits.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        row = await connection.fetchrow(
            """
            SELECT outbox_id, tenant_id, payload FROM outbox o
            WHERE kind = 'blobs' AND done_time IS NULL AND NOT EXISTS (
                SELECT FROM batch_uploads u WHERE u.tenant_id = o.tenant_id)
            ORDER BY outbox_id LIMIT 1 FOR UPDATE SKIP LOCKED
            """
        )
        if row is None:
            yield None
            return
        await connection.execute(TENANT_LOCK, row["tenant_id"])
        if await connection.fetchval(
            "SELECT EXISTS (SELECT FROM batch_uploads WHERE tenant_id = $1)", row["tenant_id"]
        ):
            yield None
            return
        keys = await connection.fetch(
            UNREFERENCED,
            json.loads(row["payload"])["keys"],
        )
        yield [key["key"] for key in keys]
        await connection.execute("DELETE FROM outbox WHERE outbox_id = $1", row["outbox_id"])


async def find_unreferenced(keys: Sequence[str]) -> list[str]:
    """Returns those of the keys that no item refers to now.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(UNREFERENCED, list(keys))
    return [row["key"] for row in rows]
