"""The outbox: work that a transaction leaves to be done after its commit."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from image_categorizer_server import clock
from image_categorizer_server.db.database import Connection, connected, transaction
from image_categorizer_server.db.tables import OutboxTableRow
from image_categorizer_server.db.tombstone import refuse_erased
from image_categorizer_server.domain.classification import Classification
from image_categorizer_server.domain.outbox import OutboxKind, OutboxRow
from image_categorizer_server.telemetry.tracing import current_traceparent

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
COUNT_PENDING = """
SELECT
    (SELECT count(*) FROM batch_chunks WHERE state IN ('READY', 'LEASED')) AS chunks,
    (SELECT count(*) FROM outbox WHERE done_time IS NULL) AS messages,
    (SELECT count(*) FROM webhook_deliveries WHERE state = 'PENDING') AS deliveries
"""
# A row is about the subject of its batch, or of the upload that would have become one.
ADD = """
INSERT INTO outbox (tenant_id, kind, batch_id, payload, create_time, take_after, subject_key,
    traceparent)
SELECT $1::text, $2::text, $3::text, $4::jsonb, $5::timestamptz, $5::timestamptz,
    coalesce((SELECT subject_key FROM batches WHERE batch_id = $3),
        (SELECT subject_key FROM batch_uploads WHERE batch_id = $3), ''),
    coalesce((SELECT traceparent FROM batches WHERE batch_id = $3), '')
"""
ADD_OF_SUBJECT = """
INSERT INTO outbox (tenant_id, kind, batch_id, payload, create_time, take_after, subject_key,
    traceparent)
VALUES ($1, $2, '', $3, $4, $4, $5, $6)
"""
# Predictions in one message.  Standard Webhooks asks for payloads below 20 KB.
MAX_PREDICTIONS = 20


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
        ADD,
        tenant_id,
        kind.value,
        batch_id,
        json.dumps(payload or {}),
        now,
    )


async def add_classification(
    tenant_id: str,
    webhook_url: str,
    request_id: str,
    classification: Classification,
    subject_key: str = "",
) -> None:
    """Adds a message about one image's classification to an address of the caller's.

    Raises:
        SubjectErased: the subject was erased.
        DependencyDown: the database does not answer.
    """
    now, model = clock.now(), classification.model
    payload = {
        "type": "classification.done",
        "webhook_url": webhook_url,
        "end_time": now.isoformat(),
        "request_id": request_id,
        "model": {"name": model.name, "version": str(model.version), "digest": model.digest},
        "predictions": [p.public_fields() for p in classification.predictions[:MAX_PREDICTIONS]],
        "warnings": classification.warnings,
    }
    kind, traceparent = OutboxKind.WEBHOOK.value, current_traceparent()
    values = tenant_id, kind, json.dumps(payload), now, subject_key, traceparent
    async with transaction() as connection:
        await refuse_erased(connection, tenant_id, subject_key)
        await connection.execute(ADD_OF_SUBJECT, *values)


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
            take_after=row["take_after"],
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


@dataclass(frozen=True, slots=True)
class Pending:
    """How much work is not finished, over all tenants."""

    chunks: int
    """Chunks of running batches: ready or leased."""
    messages: int
    """Rows of the outbox: workers to notify, webhooks to send, rows and images to remove."""
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
