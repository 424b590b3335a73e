"""Uploads of one image in parts.

    create ─▶ begin_part ─▶ the object goes to the storage ─▶ end_part ─▶ … ─▶ finish
      └─▶ remove, remove_expired: the rows go, and the objects after them

The row of a part has a lease until its object is stored: an erasure waits for it.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TypedDict, cast

from image_categorizer_server.db import removal
from image_categorizer_server.db.database import Connection, connected, transaction
from image_categorizer_server.db.locks import lock_tenant_images
from image_categorizer_server.db.tombstone import refuse_erased
from image_categorizer_server.domain.image_upload import ImageUpload, UploadPart
from image_categorizer_server.errors import QuotaExceeded

MAX_PARTS = 200
"""Of one upload, also those that do not count."""
INSERT = """
INSERT INTO image_uploads (tenant_id, upload_id, subject_key, subject_id, size_bytes, sha256,
    filename, tags, keep_metadata, create_time, expire_time, received_bytes, object_key, image_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, nullif($13, ''), nullif($14, ''))
"""
FIND = """
SELECT * FROM image_uploads
WHERE tenant_id = $1 AND subject_key = $2 AND sha256 = $3 AND size_bytes = $4
    AND keep_metadata = $5 AND image_id IS NULL AND expire_time > $6
ORDER BY create_time LIMIT 1
"""
COUNT = """
SELECT count(*) FROM image_uploads WHERE tenant_id = $1 AND image_id IS NULL AND expire_time > $2
"""
GET = "SELECT * FROM image_uploads WHERE tenant_id = $1 AND upload_id = $2 AND expire_time > $3"
INSERT_PART = """
INSERT INTO image_upload_parts (tenant_id, upload_id, object_key, offset_bytes, size_bytes,
    lease_until)
SELECT tenant_id, upload_id, $3::text, received_bytes, $5::int, $6::timestamptz FROM image_uploads
WHERE tenant_id = $1 AND upload_id = $2 AND received_bytes = $4 AND image_id IS NULL
    AND (SELECT count(*) FROM image_upload_parts
        WHERE tenant_id = $1 AND upload_id = $2) < $7
"""
# Of two parts for the same bytes, the first one that is stored counts.
ADVANCE = """
UPDATE image_uploads SET received_bytes = received_bytes + $4
WHERE tenant_id = $1 AND upload_id = $2 AND received_bytes = $3 AND image_id IS NULL
RETURNING *
"""
COUNT_PART = """
UPDATE image_upload_parts SET lease_until = NULL
WHERE tenant_id = $1 AND upload_id = $2 AND object_key = $3
"""
PARTS = """
SELECT object_key, offset_bytes, size_bytes FROM image_upload_parts
WHERE tenant_id = $1 AND upload_id = $2 AND lease_until IS NULL ORDER BY offset_bytes
"""
FINISH = """
UPDATE image_uploads SET image_id = $4, received_bytes = size_bytes
WHERE tenant_id = $1 AND upload_id = $2 AND received_bytes = $3 AND image_id IS NULL
RETURNING *
"""
REMOVE_PARTS = """
DELETE FROM image_upload_parts WHERE tenant_id = $1 AND upload_id = $2 RETURNING object_key
"""
LOCK = "SELECT object_key FROM image_uploads WHERE tenant_id = $1 AND upload_id = $2 FOR UPDATE"
REMOVE = "DELETE FROM image_uploads WHERE tenant_id = $1 AND upload_id = $2"
TAKE_EXPIRED = """
SELECT tenant_id, upload_id FROM image_uploads WHERE expire_time <= $1
ORDER BY expire_time LIMIT $2 FOR UPDATE SKIP LOCKED
"""
# The objects go with the folder of the subject.
ERASE = """
DELETE FROM image_uploads u WHERE tenant_id = $1 AND subject_key = $2 AND NOT EXISTS (
    SELECT FROM image_upload_parts p WHERE p.tenant_id = u.tenant_id
    AND p.upload_id = u.upload_id AND p.lease_until > $3) RETURNING upload_id
"""
IS_LEFT = "SELECT EXISTS (SELECT FROM image_uploads WHERE tenant_id = $1 AND subject_key = $2)"


class UploadRow(TypedDict):
    """A row of `image_uploads`."""

    tenant_id: str
    upload_id: str
    subject_key: str
    subject_id: str
    size_bytes: int
    sha256: str
    filename: str
    tags: list[str]
    keep_metadata: bool
    received_bytes: int
    object_key: str | None
    image_id: str | None
    create_time: datetime
    expire_time: datetime


async def create(upload: ImageUpload, max_unfinished: int) -> ImageUpload:
    """Writes an upload, or finds the unfinished one of the same bytes.

    Raises:
        QuotaExceeded: the tenant has too many unfinished uploads.
        SubjectErased: the subject was erased.
        DependencyDown: the database does not answer.
    """
    tenant_id, now = upload.tenant_id, upload.create_time
    async with transaction() as connection:
        await refuse_erased(connection, tenant_id, upload.subject_key)
        await lock_tenant_images(connection, tenant_id)
        if not upload.image_id:
            if found := await _find(connection, upload):
                return found
            count = cast("int", await connection.fetchval(COUNT, tenant_id, now))
            if count >= max_unfinished:
                text = f"{max_unfinished} uploads are unfinished: complete or cancel some"
                raise QuotaExceeded(text)
        await connection.execute(
            INSERT,
            tenant_id,
            upload.upload_id,
            upload.subject_key,
            upload.subject_id,
            upload.size_bytes,
            upload.sha256,
            upload.filename,
            list(upload.tags),
            upload.keep_metadata,
            now,
            upload.expire_time,
            upload.received_bytes,
            upload.object_key,
            upload.image_id,
        )
    return upload


async def _find(connection: Connection, wanted: ImageUpload) -> ImageUpload | None:
    if not wanted.sha256:
        return None
    row = await connection.fetchrow(
        FIND,
        wanted.tenant_id,
        wanted.subject_key,
        wanted.sha256,
        wanted.size_bytes,
        wanted.keep_metadata,
        wanted.create_time,
    )
    return _upload(cast("UploadRow", row)) if row else None


async def get(tenant_id: str, upload_id: str, now: datetime) -> ImageUpload | None:
    """Returns an upload; None if the tenant has no such upload, or it has expired.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        row = await connection.fetchrow(GET, tenant_id, upload_id, now)
    return _upload(cast("UploadRow", row)) if row else None


async def begin_part(upload: ImageUpload, part: UploadPart, lease_until: datetime) -> bool:
    """Writes the row of a part that is about to be stored.

    Returns:
        False if the upload is gone, complete or at another byte, or has too many parts.

    Raises:
        SubjectErased: the subject was erased.
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        await refuse_erased(connection, upload.tenant_id, upload.subject_key)
        done = await connection.execute(
            INSERT_PART,
            upload.tenant_id,
            upload.upload_id,
            part.object_key,
            part.offset_bytes,
            part.size_bytes,
            lease_until,
            MAX_PARTS,
        )
    return done == "INSERT 0 1"


async def end_part(upload: ImageUpload, part: UploadPart) -> ImageUpload | None:
    """Counts a part that is stored; returns None if the upload is gone or at another byte.

    Raises:
        DependencyDown: the database does not answer.
    """
    name = upload.tenant_id, upload.upload_id
    async with transaction() as connection:
        row = await connection.fetchrow(ADVANCE, *name, part.offset_bytes, part.size_bytes)
        if row is not None:
            await connection.execute(COUNT_PART, *name, part.object_key)
    return _upload(cast("UploadRow", row)) if row else None


async def list_parts(upload: ImageUpload) -> list[UploadPart]:
    """Returns the parts that count, in their order.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(PARTS, upload.tenant_id, upload.upload_id)
    return [UploadPart(*row.values()) for row in rows]  # type: ignore[arg-type]


async def finish(upload: ImageUpload, image_id: str, now: datetime) -> ImageUpload | None:
    """Notes which image an upload has become; its parts are removed later.

    Returns:
        None if the upload is gone, complete, or not at the byte where `upload` is.

    Raises:
        DependencyDown: the database does not answer.
    """
    name = upload.tenant_id, upload.upload_id
    async with transaction() as connection:
        row = await connection.fetchrow(FINISH, *name, upload.received_bytes, image_id)
        if row is None:
            return None
        parts = await connection.fetch(REMOVE_PARTS, *name)
        keys = [str(part["object_key"]) for part in parts]
        await removal.add_images(connection, upload.tenant_id, "", now, keys)
    return _upload(cast("UploadRow", row))


async def remove(tenant_id: str, upload_id: str, now: datetime) -> bool:
    """Removes an upload; its objects are removed later.  False if the tenant has no such upload.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        return await _remove(connection, tenant_id, upload_id, now)


async def remove_expired(now: datetime, limit: int) -> int:
    """Removes expired uploads of all tenants; returns how many.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        rows = await connection.fetch(TAKE_EXPIRED, now, limit)
        for row in rows:
            await _remove(connection, str(row["tenant_id"]), str(row["upload_id"]), now)
    return len(rows)


async def _remove(connection: Connection, tenant_id: str, upload_id: str, now: datetime) -> bool:
    locked = await connection.fetchrow(LOCK, tenant_id, upload_id)
    if locked is None:
        return False
    rows: Sequence[object] = await connection.fetch(REMOVE_PARTS, tenant_id, upload_id)
    found = [locked["object_key"], *(row["object_key"] for row in rows)]  # type: ignore[index]
    await connection.execute(REMOVE, tenant_id, upload_id)
    keys = [str(key) for key in found if key is not None]
    await removal.add_images(connection, tenant_id, "", now, keys)
    return True


async def erase(tenant_id: str, subject_key: str, now: datetime) -> tuple[int, bool]:
    """Removes the uploads of a subject, but those of which a part is being stored.

    Returns:
        How many were removed; and whether none is left.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        rows = await connection.fetch(ERASE, tenant_id, subject_key, now)
        is_left = await connection.fetchval(IS_LEFT, tenant_id, subject_key)
    return len(rows), not is_left


def _upload(row: UploadRow) -> ImageUpload:
    return ImageUpload(
        tenant_id=row["tenant_id"],
        upload_id=row["upload_id"],
        subject_key=row["subject_key"],
        subject_id=row["subject_id"],
        size_bytes=row["size_bytes"],
        sha256=row["sha256"],
        filename=row["filename"],
        tags=tuple(row["tags"]),
        keep_metadata=row["keep_metadata"],
        create_time=row["create_time"],
        expire_time=row["expire_time"],
        received_bytes=row["received_bytes"],
        object_key=row["object_key"] or "",
        image_id=row["image_id"] or "",
    )
