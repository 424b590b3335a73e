"""Stored images and their results.

    begin ─▶ the object goes to the storage ─▶ finish
      └─▶ take_silent: the lease has ended, so the row goes, and the object after it

A row refers to its object before the object is there, so `removal` spares it.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypedDict, cast

from image_categorizer_server import clock
from image_categorizer_server.db import audit, removal
from image_categorizer_server.db.convert import predictions_from_json, predictions_to_json
from image_categorizer_server.db.database import Connection, connected, transaction
from image_categorizer_server.db.erasure import refuse_erased
from image_categorizer_server.db.locks import lock_tenant_images
from image_categorizer_server.domain.audit import AuditAction
from image_categorizer_server.domain.classification import ModelRef
from image_categorizer_server.domain.image import Image, ImageResult

# Takes over the row of a process that died.
INSERT = """
INSERT INTO images (tenant_id, image_id, subject_key, subject_id, sha256, object_key, size_bytes,
    format, width_px, height_px, filename, tags, create_time, lease_until)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
ON CONFLICT (tenant_id, subject_key, sha256) DO UPDATE SET image_id = excluded.image_id,
    filename = excluded.filename, tags = excluded.tags, create_time = excluded.create_time,
    lease_until = excluded.lease_until
WHERE images.lease_until < excluded.create_time AND images.object_key = excluded.object_key
RETURNING image_id
"""
FINISH = """
UPDATE images SET lease_until = NULL
WHERE tenant_id = $1 AND image_id = $2 AND lease_until IS NOT NULL RETURNING true
"""
# The newest result of each image comes with it.
SELECT = """
SELECT i.*, r.result_id, r.predictions, r.model_name, r.model_version, r.model_digest,
    r.create_time AS result_time
FROM images i LEFT JOIN LATERAL (
    SELECT * FROM image_results r WHERE r.tenant_id = i.tenant_id AND r.image_id = i.image_id
    ORDER BY r.create_time DESC, r.result_id DESC LIMIT 1) r ON true
"""
GET = f"{SELECT} WHERE i.tenant_id = $1 AND i.image_id = $2 AND i.lease_until IS NULL"
# What an erasure is about to remove is not found: `begin` refuses to store it again.
FIND = f"""
{SELECT} WHERE i.tenant_id = $1 AND i.subject_key = $2 AND i.sha256 = $3 AND i.lease_until IS NULL
    AND NOT EXISTS (SELECT FROM erasures e
        WHERE e.tenant_id = $1 AND e.subject_key = $2 AND e.allow_time IS NULL)
"""
LIST = f"""
{SELECT} WHERE i.tenant_id = $1 AND i.lease_until IS NULL
    AND (i.create_time, i.image_id) < ($2, $3)
ORDER BY i.create_time DESC, i.image_id DESC LIMIT $4
"""
LIST_OF_SUBJECT = LIST.replace(
    "ORDER BY", "AND i.subject_key = $5 AND i.subject_key <> '' ORDER BY"
)
DELETE = "DELETE FROM images WHERE tenant_id = $1 AND image_id = $2 RETURNING object_key"
DELETE_SILENT = """
DELETE FROM images WHERE (tenant_id, image_id) IN (
    SELECT tenant_id, image_id FROM images WHERE lease_until < $1
    ORDER BY lease_until LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING tenant_id, object_key
"""
INSERT_RESULT = """
INSERT INTO image_results (tenant_id, result_id, image_id, predictions, model_name, model_version,
    model_digest, create_time)
SELECT $1, $2, $3, $4::jsonb, $5, $6, $7, $8
WHERE EXISTS (SELECT FROM images WHERE tenant_id = $1 AND image_id = $3 FOR KEY SHARE)
RETURNING true
"""


RESULTS = """
SELECT * FROM image_results WHERE tenant_id = $1 AND image_id = $2
ORDER BY create_time, result_id LIMIT $3
"""
NEWEST = datetime.max.replace(tzinfo=UTC), ""
"""The position before which all images are."""
MAX_RESULTS = 10_000


class ResultRow(TypedDict):
    """A row of `image_results`."""

    result_id: str
    image_id: str
    predictions: str  # JSON
    model_name: str
    model_version: int
    model_digest: str
    create_time: datetime


class ImageRow(ResultRow):
    """A row of `images`, with the newest of `image_results`, if there is one."""

    tenant_id: str
    subject_key: str
    subject_id: str
    sha256: str
    object_key: str
    size_bytes: int
    format: str
    width_px: int
    height_px: int
    filename: str
    tags: list[str]
    result_time: datetime


async def begin(image: Image, lease_until: datetime) -> bool:
    """Writes the row of an image that is about to be stored, and finished within the lease.

    Returns:
        False if the object is being removed, or the same bytes are stored for the subject.  The
        caller tries again if they are not stored, but only being stored.

    Raises:
        SubjectErased: the subject was erased.
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        await refuse_erased(connection, image.tenant_id, image.subject_key)
        await lock_tenant_images(connection, image.tenant_id)
        if image.object_key in await removal.find_removing(connection, image.tenant_id):
            return False
        inserted = await connection.fetchval(
            INSERT,
            image.tenant_id,
            image.image_id,
            image.subject_key,
            image.subject_id,
            image.sha256,
            image.object_key,
            image.size_bytes,
            image.format,
            image.width_px,
            image.height_px,
            image.filename,
            list(image.tags),
            image.create_time,
            lease_until,
        )
    return inserted is not None


async def finish(image: Image) -> bool:
    """Makes an image visible whose object is stored; returns False if its lease has ended.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        return bool(await connection.fetchval(FINISH, image.tenant_id, image.image_id))


async def remove_silent(limit: int) -> int:
    """Removes images that were not finished within their lease; returns how many.

    Raises:
        DependencyDown: the database does not answer.
    """
    now = clock.now()
    async with transaction() as connection:
        rows = await connection.fetch(DELETE_SILENT, now, limit)
        for row in rows:
            await _drop_object(connection, str(row["tenant_id"]), str(row["object_key"]), now)
    return len(rows)


async def get(tenant_id: str, image_id: str) -> Image | None:
    """Returns an image; None if the tenant has no such image.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        row = await connection.fetchrow(GET, tenant_id, image_id)
    return _image(cast("ImageRow", row)) if row else None


async def find(tenant_id: str, subject_key: str, sha256: str) -> Image | None:
    """Returns the image of some bytes; None if they are not stored for the subject.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        row = await connection.fetchrow(FIND, tenant_id, subject_key, sha256)
    return _image(cast("ImageRow", row)) if row else None


async def list_images(
    tenant_id: str, before: tuple[datetime, str], limit: int, subject_key: str = ""
) -> list[Image]:
    """Returns images before a position, newest first; of one subject, or of all.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        if subject_key:
            rows = await connection.fetch(LIST_OF_SUBJECT, tenant_id, *before, limit, subject_key)
        else:
            rows = await connection.fetch(LIST, tenant_id, *before, limit)
    return [_image(row) for row in cast("Sequence[ImageRow]", rows)]


async def delete(tenant_id: str, image_id: str, now: datetime) -> bool:
    """Deletes an image with all that refers to it; its object is removed later.

    Returns:
        False if the tenant has no such image.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        object_key = await connection.fetchval(DELETE, tenant_id, image_id)
        if object_key is None:
            return False
        await _drop_object(connection, tenant_id, str(object_key), now)
        action = AuditAction.IMAGE_DELETE
        await audit.record_event(connection, tenant_id, action, image_id, now)
    return True


async def add_result(tenant_id: str, result: ImageResult) -> bool:
    """Adds a result to an image; returns False if the image is gone.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        return bool(
            await connection.fetchval(
                INSERT_RESULT,
                tenant_id,
                result.result_id,
                result.image_id,
                predictions_to_json(result.predictions),
                result.model.name,
                result.model.version,
                result.model.digest,
                result.create_time,
            )
        )


async def list_results(tenant_id: str, image_id: str) -> list[ImageResult]:
    """Returns the results of an image, the oldest first; `MAX_RESULTS` at most.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(RESULTS, tenant_id, image_id, MAX_RESULTS)
    return [_result(row, row["create_time"]) for row in cast("Sequence[ResultRow]", rows)]


async def _drop_object(
    connection: Connection, tenant_id: str, object_key: str, now: datetime
) -> None:
    """Adds the object of an image that is gone to what is removed unless something refers to it."""
    await removal.add_images(connection, tenant_id, "", now, [object_key])


def _image(row: ImageRow) -> Image:
    result = None
    if row["result_id"] is not None:
        result = _result(row, row["result_time"])
    return Image(
        tenant_id=row["tenant_id"],
        image_id=row["image_id"],
        subject_key=row["subject_key"],
        subject_id=row["subject_id"],
        sha256=row["sha256"],
        object_key=row["object_key"],
        size_bytes=row["size_bytes"],
        format=row["format"],
        width_px=row["width_px"],
        height_px=row["height_px"],
        filename=row["filename"],
        tags=tuple(row["tags"]),
        create_time=row["create_time"],
        result=result,
    )


def _result(row: ResultRow, create_time: datetime) -> ImageResult:
    return ImageResult(
        row["result_id"],
        row["image_id"],
        predictions_from_json(row["predictions"]),
        ModelRef(row["model_name"], row["model_version"], row["model_digest"]),
        create_time,
    )
