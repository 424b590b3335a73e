"""Removal: of the rows of batches that are gone, and of images to which nothing refers.

    a batch is deleted, or an upload given up ─▶ ROWS ─▶ its rows go, page by page
                                                              └─▶ BLOBS: their images
    BLOBS ─▶ REMOVING: those that nothing needs ─▶ the store removes them ─▶ done

Each step is one row of the outbox and one short transaction, so a process may die anywhere, and any
number of processes may remove at once.  No lock is held while the store works:

- Images become REMOVING only while their tenant uploads nothing.
- An upload that begins later is told which images are REMOVING, and stores none of them before they
  are done.  So the store never removes what an upload has just stored.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from image_categorizer_server import clock, failpoints
from image_categorizer_server.db import outbox
from image_categorizer_server.db.database import Connection, connected, transaction
from image_categorizer_server.db.locks import lock_tenant_images
from image_categorizer_server.db.tables import OutboxTableRow
from image_categorizer_server.domain.outbox import OutboxKind

# The only authority on what may be removed from the storage: an image to which none of these
# columns refers.  A later table that refers to images registers its column here, with an index on
# it, names it `…object_key`, and refers to new images only while an upload is registered, or before
# they are stored (`db/image.py`).  A test compares this list with the schema.
REFERENCES = (
    ("batch_items", "object_key"),
    ("images", "object_key"),
    ("image_renditions", "object_key"),
    ("image_uploads", "object_key"),
    ("image_upload_parts", "object_key"),
)
UNREFERENCED = "SELECT key FROM unnest($1::text[]) AS k (key) WHERE " + " AND ".join(  # noqa: S608
    f"NOT EXISTS (SELECT FROM {table} r WHERE r.{column} = k.key)" for table, column in REFERENCES
)
# The images of a subject lie in its folder, and an erasure finds their rows by its key.
ADD_IMAGES = """
INSERT INTO outbox (tenant_id, kind, batch_id, payload, create_time, take_after, subject_key)
SELECT $1::text, 'blobs', $2::text, jsonb_build_object('keys', jsonb_agg(key)),
    $3::timestamptz, $3::timestamptz, subject_key
FROM (
    SELECT key, subject_key,
        (row_number() OVER (PARTITION BY subject_key) - 1) / $5::int AS page
    FROM unnest($4::text[]) AS k (key) CROSS JOIN LATERAL (
        SELECT CASE WHEN split_part(key, '/', 2) = 'subjects' THEN split_part(key, '/', 3)
            ELSE '' END AS subject_key) s) p
GROUP BY subject_key, page
"""
# Results that a worker writes afterwards find no batch.
REMOVE_BATCHES = """
WITH gone AS (
    DELETE FROM batches WHERE tenant_id = $1 AND batch_id = ANY ($2::text[])
    RETURNING batch_id, subject_key),
messages AS (
    DELETE FROM outbox o USING gone
    WHERE o.batch_id = gone.batch_id AND o.kind = 'doorbell' AND o.done_time IS NULL)
INSERT INTO outbox (tenant_id, kind, batch_id, payload, create_time, take_after, subject_key)
SELECT $1::text, 'rows', batch_id, '{"first_item": 0}', $3::timestamptz, $3::timestamptz,
    subject_key
FROM gone
"""
NEXT_ROWS = """
SELECT * FROM outbox WHERE kind = 'rows' AND done_time IS NULL
ORDER BY outbox_id LIMIT 1 FOR UPDATE SKIP LOCKED
"""
FIRST_ITEM = "SELECT min(number) FROM batch_items WHERE batch_id = $1 AND number >= $2"
REMOVE_RESULTS = "DELETE FROM batch_results WHERE batch_id = $1 AND number >= $2 AND number < $3"
REMOVE_ITEMS = """
DELETE FROM batch_items WHERE batch_id = $1 AND number >= $2 AND number < $3 RETURNING object_key
"""
REMOVE_CHUNKS = """
DELETE FROM batch_chunks WHERE batch_id = $1 AND number IN (
    SELECT number FROM batch_chunks WHERE batch_id = $1 ORDER BY number LIMIT $2)
"""
# The oldest images to remove, of a tenant that uploads nothing at the moment.
NEXT_IMAGES = """
SELECT * FROM outbox o
WHERE kind = 'blobs' AND done_time IS NULL AND NOT EXISTS (
    SELECT FROM batch_uploads u WHERE u.tenant_id = o.tenant_id)
ORDER BY outbox_id LIMIT 1 FOR UPDATE SKIP LOCKED
"""
IS_UPLOADING = "SELECT EXISTS (SELECT FROM batch_uploads WHERE tenant_id = $1)"
MARK = "UPDATE outbox SET kind = 'removing', payload = $2, take_after = $3 WHERE outbox_id = $1"
# Whoever lost its lease ends nothing: another process may be removing the same images.
END = "DELETE FROM outbox WHERE outbox_id = $1 AND take_after = $2"
REMOVING = """
SELECT DISTINCT jsonb_array_elements_text(payload->'keys') AS key FROM outbox
WHERE kind = 'removing' AND done_time IS NULL AND tenant_id = $1
"""
IS_REMOVING = """
SELECT EXISTS (
    SELECT FROM outbox
    WHERE kind = 'removing' AND done_time IS NULL AND tenant_id = $1 AND payload->'keys' ? $2)
"""
# Items, with their results, that one transaction removes; and chunks.
ROWS_PER_PAGE = 1000
# Keys of images in one row: what a store removes within the lease of a removal.
KEYS_PER_ROW = 100


@dataclass(frozen=True, slots=True)
class ImageRemoval:
    """Images that the caller, and nobody else, removes from the storage."""

    outbox_id: int
    keys: tuple[str, ...]
    lease_until: datetime


async def add_rows(connection: Connection, tenant_id: str, batch_id: str, now: datetime) -> None:
    """Adds all rows of an upload that goes, and its images, to what is to be removed.

    The row of the upload goes later in the open transaction; nothing may add rows to the batch
    after that.
    """
    await outbox.add(connection, OutboxKind.ROWS, tenant_id, batch_id, now, {"first_item": 0})


async def remove_batches(
    connection: Connection, tenant_id: str, batch_ids: Sequence[str], now: datetime
) -> None:
    """Removes batches for every caller; their other rows and images are to be removed.

    The transaction has locked them.
    """
    await connection.execute(REMOVE_BATCHES, tenant_id, list(batch_ids), now)


async def add_images(
    connection: Connection, tenant_id: str, batch_id: str, now: datetime, keys: Sequence[str]
) -> None:
    """Adds images of a batch, to be removed unless something refers to them."""
    await connection.execute(ADD_IMAGES, tenant_id, batch_id, now, list(keys), KEYS_PER_ROW)


async def add_unreferenced(tenant_id: str, batch_id: str, keys: Sequence[str]) -> None:
    """Adds those images to which nothing refers now, to be removed unless something does later.

    Args:
        tenant_id: the tenant that owns the images.
        batch_id: the batch that may have left them.
        keys: images in the storage.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        left = await _unreferenced(connection, keys)
        await add_images(connection, tenant_id, batch_id, clock.now(), left)


async def remove_rows(page_rows: int = ROWS_PER_PAGE) -> bool:
    """Removes one page of rows of a batch that is gone; returns False if there are none.

    Args:
        page_rows: the maximum number of items, with their results, or of chunks.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        found = await connection.fetchrow(NEXT_ROWS)
        if found is None:
            return False
        row = cast("OutboxTableRow", found)
        if not await _remove_items(connection, row, page_rows):
            done = await connection.execute(REMOVE_CHUNKS, row["batch_id"], page_rows)
            if done == "DELETE 0":
                await connection.execute(
                    "DELETE FROM outbox WHERE outbox_id = $1", row["outbox_id"]
                )
        failpoints.hit("rows.removing")
    failpoints.hit("rows.removed")
    return True


async def _remove_items(connection: Connection, row: OutboxTableRow, page_rows: int) -> bool:
    """Removes items and their results, and adds their images; returns False if none are left."""
    batch_id = row["batch_id"]
    # Where the last page ended: an index begins with rows that are removed, but not vacuumed yet.
    position = json.loads(row["payload"])["first_item"]
    first = cast("int | None", await connection.fetchval(FIRST_ITEM, batch_id, position))
    if first is None:
        return False
    end = first + page_rows
    await connection.execute(REMOVE_RESULTS, batch_id, first, end)
    removed = await connection.fetch(REMOVE_ITEMS, batch_id, first, end)
    keys = dict.fromkeys(str(item["object_key"]) for item in removed if item["object_key"])
    await add_images(connection, row["tenant_id"], batch_id, clock.now(), list(keys))
    await connection.execute(
        "UPDATE outbox SET payload = $2 WHERE outbox_id = $1",
        row["outbox_id"],
        json.dumps({"first_item": end}),
    )
    return True


async def claim_images(lease_s: float) -> ImageRemoval | None:
    """Leases images to which nothing refers; returns None if there is nothing to remove now.

    The caller removes them from the storage well within the lease, and then calls `end_removal`.

    Args:
        lease_s: how long nobody else gets them.  Uploads of the same images wait even longer: until
            somebody has ended the removal.

    Raises:
        DependencyDown: the database does not answer.
    """
    while True:
        # Those first that a process which died has left.
        for row in await outbox.take([OutboxKind.REMOVING], 1, lease_s):
            keys = cast("list[str]", row.payload["keys"])
            return ImageRemoval(row.outbox_id, tuple(keys), row.take_after)
        if not await _mark_images():
            return None


async def _mark_images() -> bool:
    """Marks images to which nothing refers as being removed; returns False if there are none."""
    async with transaction() as connection:
        found = await connection.fetchrow(NEXT_IMAGES)
        if found is None:
            return False
        row = cast("OutboxTableRow", found)
        await lock_tenant_images(connection, row["tenant_id"])
        # An upload may have begun between the query and the lock.
        if not await connection.fetchval(IS_UPLOADING, row["tenant_id"]):
            keys = await _unreferenced(connection, json.loads(row["payload"])["keys"])
            payload = json.dumps({"keys": keys})
            await connection.execute(MARK, row["outbox_id"], payload, clock.now())
    return True


async def end_removal(removal: ImageRemoval) -> None:
    """Ends a removal whose images are gone; does nothing if another process has its lease now.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        await connection.execute(END, removal.outbox_id, removal.lease_until)


async def find_removing(connection: Connection, tenant_id: str) -> frozenset[str]:
    """Returns the keys of the tenant's images that are being removed.

    The transaction holds the lock of the tenant's images, and registers an upload.
    """
    return frozenset(str(row["key"]) for row in await connection.fetch(REMOVING, tenant_id))


async def is_removing(tenant_id: str, key: str) -> bool:
    """Returns whether an image is still being removed.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        return bool(await connection.fetchval(IS_REMOVING, tenant_id, key))


async def _unreferenced(connection: Connection, keys: Sequence[str]) -> list[str]:
    return [str(row["key"]) for row in await connection.fetch(UNREFERENCED, list(keys))]
