"""Batches on their way in: their items are written page by page, and belong to no batch yet.

An upload whose server died is found by its lease; its items and its images are removed.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from image_categorizer_server import clock
from image_categorizer_server.db.database import connected, transaction
from image_categorizer_server.db.locks import BULK_TIMEOUT_S, leave
from image_categorizer_server.db.outbox import TENANT_LOCK
from image_categorizer_server.domain.batch import BatchItem, ItemError
from image_categorizer_server.domain.outbox import OutboxKind
from image_categorizer_server.errors import DependencyDown

COLUMNS = (
    "batch_id",
    "number",
    "tenant_id",
    "filename",
    "object_key",
    "image_uri",
    "size_bytes",
    "status",
    "reason",
    "message",
)
GIVEN_UP = "the upload was silent for too long"
# So many keys are removed in one go.
BLOB_PAGE = 1000
# The images of a batch, as work for `outbox.unreferenced_blobs`.
LEAVE_BLOBS = """
INSERT INTO outbox (tenant_id, kind, batch_id, payload, create_time, take_after)
SELECT $2::text, $3::text, $1, jsonb_build_object('keys', jsonb_agg(object_key)),
    $4::timestamptz, $4::timestamptz
FROM (SELECT object_key, row_number() OVER () / $5::int AS page
      FROM (SELECT DISTINCT object_key FROM batch_items
            WHERE batch_id = $1 AND object_key IS NOT NULL) k) pages
GROUP BY page
"""


async def begin_upload(tenant_id: str, batch_id: str, lease_s: float) -> None:
    """Notes that a batch is being uploaded; from now on no image of the tenant is removed.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        await connection.execute(TENANT_LOCK, tenant_id)
        await connection.execute(
            "INSERT INTO batch_uploads (batch_id, tenant_id, lease_until) VALUES ($1, $2, $3)",
            batch_id,
            tenant_id,
            clock.now() + timedelta(seconds=lease_s),
        )


async def extend_upload(batch_id: str, lease_s: float) -> bool:
    """Notes that the upload goes on; returns False where it was given up meanwhile.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        done = await connection.execute(
            "UPDATE batch_uploads SET lease_until = $2 WHERE batch_id = $1",
            batch_id,
            clock.now() + timedelta(seconds=lease_s),
        )
    return bool(done == "UPDATE 1")


async def write_items(
    tenant_id: str, batch_id: str, items: Sequence[tuple[BatchItem, ItemError | None]]
) -> None:
    """Writes items of an upload; those with an error have failed already.

    Raises:
        DependencyDown: the database does not answer, or the upload was given up.
    """
    async with transaction() as connection:
        # Who gives the upload up waits for this page, and removes it too, or came before it.
        if not await connection.fetchval(
            "SELECT true FROM batch_uploads WHERE batch_id = $1 FOR KEY SHARE", batch_id
        ):
            raise DependencyDown(GIVEN_UP)
        await connection.copy_records_to_table(
            "batch_items",
            columns=COLUMNS,
            records=[_record(tenant_id, batch_id, item, error) for item, error in items],
            timeout=BULK_TIMEOUT_S,
        )


def _record(
    tenant_id: str, batch_id: str, item: BatchItem, error: ItemError | None
) -> tuple[Any, ...]:
    why = (error.status, error.reason, error.message) if error else (None, None, None)
    stored = (item.filename, item.object_key, item.image_uri, item.size_bytes)
    return (batch_id, item.number, tenant_id, *stored, *why)


async def give_up_upload(tenant_id: str, batch_id: str, keys: Sequence[str] = ()) -> None:
    """Removes an upload, its items, and its images where nothing else refers to them.

    Args:
        tenant_id: whose upload.
        batch_id: what would have been the batch; nothing happens where it became one.
        keys: images that may be stored with no item written for them; they are removed also where
            the upload was given up before.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        given_up = await connection.fetchval(
            "DELETE FROM batch_uploads WHERE batch_id = $1 AND tenant_id = $2 RETURNING true",
            batch_id,
            tenant_id,
        )
        now = clock.now()
        for start in range(0, len(keys), BLOB_PAGE):
            page = {"keys": list(keys[start : start + BLOB_PAGE])}
            await leave(connection, OutboxKind.BLOBS, tenant_id, batch_id, now, page)
        if not given_up:
            return
        await leave_blobs(connection, tenant_id, batch_id, now)
        await connection.execute(
            "DELETE FROM batch_items WHERE batch_id = $1", batch_id, timeout=BULK_TIMEOUT_S
        )


async def leave_blobs(connection: Any, tenant_id: str, batch_id: str, now: datetime) -> None:
    """Leaves the images of a batch in the outbox, to be removed where nothing refers to them."""
    await connection.execute(
        LEAVE_BLOBS,
        batch_id,
        tenant_id,
        OutboxKind.BLOBS.value,
        now,
        BLOB_PAGE,
        timeout=BULK_TIMEOUT_S,
    )


async def take_silent_uploads(lease_s: float) -> list[tuple[str, str]]:
    """Returns tenant and batch of the uploads whose lease has ended: their server is no more.

    They are offered to nobody else for `lease_s`: looking for what they left may take long.

    Raises:
        DependencyDown: the database does not answer.
    """
    now = clock.now()
    async with connected() as connection:
        rows = await connection.fetch(
            "UPDATE batch_uploads SET lease_until = $2 WHERE lease_until < $1"
            " RETURNING tenant_id, batch_id",
            now,
            now + timedelta(seconds=lease_s),
        )
    return [(row["tenant_id"], row["batch_id"]) for row in rows]
