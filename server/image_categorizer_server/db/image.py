"""Stored images and their results.

    begin ─▶ the object goes to the storage ─▶ finish
      └─▶ take_silent: the lease has ended, so the row goes, and the object after it

A row refers to its object before the object is there, so `removal` spares it.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TypedDict, cast

from image_categorizer_server import clock
from image_categorizer_server.db import audit, image_term, legal_hold, removal
from image_categorizer_server.db.convert import columns_of, predictions_from_json
from image_categorizer_server.db.database import Connection, connected, transaction
from image_categorizer_server.db.facts import (
    FactsRow,
    facts_from_row,
    facts_to_row,
    hash_to_bigint,
)
from image_categorizer_server.db.locks import lock_tenant_images
from image_categorizer_server.db.tombstone import refuse_erased
from image_categorizer_server.domain.audit import AuditAction
from image_categorizer_server.domain.classification import ModelRef
from image_categorizer_server.domain.image import Image, ImageChanges, ImageFilter, ImageResult
from image_categorizer_server.errors import SubjectErased

# Before every image.
FIRST_TIME = datetime(1970, 1, 1, tzinfo=UTC)
# Takes over the row of a process that died.
INSERT = """
INSERT INTO images (tenant_id, image_id, subject_key, subject_id, sha256, object_key, size_bytes,
    format, width_px, height_px, filename, tags, create_time, lease_until, has_metadata,
    perceptual_hash, dominant_colours, brightness, sharpness)
SELECT $1, image_id, subject_key, subject_id, sha256, object_key, size_bytes, format, width_px,
    height_px, filename, ARRAY(SELECT jsonb_array_elements_text(tags::jsonb)), create_time, $2,
    has_metadata, perceptual_hash, dominant_colours::jsonb, brightness, sharpness
FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::int[], $9::text[],
    $10::int[], $11::int[], $12::text[], $13::text[], $14::timestamptz[], $15::boolean[],
    $16::bigint[], $17::text[], $18::real[], $19::real[]) AS i (image_id, subject_key, subject_id,
    sha256, object_key, size_bytes, format, width_px, height_px, filename, tags, create_time,
    has_metadata, perceptual_hash, dominant_colours, brightness, sharpness)
WHERE NOT EXISTS (SELECT FROM outbox o WHERE o.kind = 'removing' AND o.done_time IS NULL
    AND o.tenant_id = $1 AND o.payload->'keys' ? i.object_key)
ON CONFLICT (tenant_id, subject_key, sha256) DO UPDATE SET image_id = excluded.image_id,
    filename = excluded.filename, tags = excluded.tags, create_time = excluded.create_time,
    lease_until = excluded.lease_until
WHERE images.lease_until < excluded.create_time AND images.object_key = excluded.object_key
RETURNING image_id
"""
FINISH = """
WITH done AS (
    UPDATE images SET lease_until = NULL
    WHERE tenant_id = $1 AND image_id = ANY ($2::text[]) AND lease_until IS NOT NULL
    RETURNING tenant_id, image_id, create_time),
terms AS (
    INSERT INTO image_terms (tenant_id, image_id, term, create_time)
    SELECT d.tenant_id, d.image_id, t.term, d.create_time
    FROM done d JOIN unnest($3::text[], $4::text[]) AS t (image_id, term) USING (image_id))
SELECT image_id FROM done
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
GET_MANY = f"""
{SELECT} WHERE i.tenant_id = $1 AND i.image_id = ANY($2::text[]) AND i.lease_until IS NULL
"""
# What an erasure is about to remove is not found: `begin` refuses to store it again.
FIND = f"""
{SELECT} WHERE i.tenant_id = $1 AND i.subject_key = $2 AND i.sha256 = $3 AND i.lease_until IS NULL
    AND NOT EXISTS (SELECT FROM erasures e
        WHERE e.tenant_id = $1 AND e.subject_key = $2 AND e.allow_time IS NULL)
"""
LIST = f"""
{SELECT} WHERE i.tenant_id = $1 AND i.lease_until IS NULL
    AND (i.create_time, i.image_id) < ($2, $3) AND i.create_time >= $4
ORDER BY i.create_time DESC, i.image_id DESC LIMIT $5
"""
FOUND = f"""
{SELECT} JOIN found f ON f.image_id = i.image_id WHERE i.tenant_id = $1
ORDER BY f.create_time DESC, f.image_id DESC
"""
# A plan for any terms would begin with the first one; the rarest is the best.
CUSTOM_PLAN = "SET LOCAL plan_cache_mode = force_custom_plan"
UPDATE = """
UPDATE images SET filename = coalesce($3, filename), tags = coalesce($4::text[], tags)
WHERE tenant_id = $1 AND image_id = $2 AND lease_until IS NULL RETURNING create_time
"""
# Nobody adds a rendition to a locked image.
LOCK_TO_DELETE = """
SELECT subject_key FROM images WHERE tenant_id = $1 AND image_id = $2 FOR UPDATE
"""
DELETE_RENDITIONS = """
DELETE FROM image_renditions WHERE tenant_id = $1 AND image_id = ANY ($2::text[])
RETURNING object_key
"""
DELETE = """
DELETE FROM images WHERE tenant_id = $1 AND image_id = ANY ($2::text[]) RETURNING object_key
"""
DELETE_SILENT = """
DELETE FROM images WHERE (tenant_id, image_id) IN (
    SELECT tenant_id, image_id FROM images WHERE lease_until < $1
    ORDER BY lease_until LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING tenant_id, object_key
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


class ImageRow(FactsRow):
    """A row of `images`, with the newest of `image_results`."""

    tenant_id: str
    image_id: str
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
    create_time: datetime
    has_metadata: bool
    result_id: str | None
    predictions: str  # JSON
    model_name: str
    model_version: int
    model_digest: str
    result_time: datetime


async def begin(
    tenant_id: str, images: Sequence[Image], lease_until: datetime
) -> list[bool | SubjectErased]:
    """Writes the rows of images that are about to be stored, and finished within the lease.

    Returns:
        False for each whose object is being removed, or whose bytes are stored for the subject.
        The caller tries again if they are not stored, but only being stored.  The error for each
        whose subject was erased.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        erased = await _erased(connection, tenant_id, {image.subject_key for image in images})
        await lock_tenant_images(connection, tenant_id)
        # Of images with the same bytes the first one.
        new = {
            (image.subject_key, image.sha256): image
            for image in reversed(images)
            if image.subject_key not in erased
        }
        inserted = set()
        if new:
            columns = columns_of(_values(image) for image in new.values())
            rows = await connection.fetch(INSERT, tenant_id, lease_until, *columns)
            inserted = {row["image_id"] for row in rows}
    return [erased.get(image.subject_key, image.image_id in inserted) for image in images]


async def _erased(
    connection: Connection, tenant_id: str, subject_keys: Iterable[str]
) -> dict[str, SubjectErased]:
    """Returns why nothing may be stored about subjects, for those that were erased."""
    erased: dict[str, SubjectErased] = {}
    for subject_key in sorted(subject_keys):  # in one order, as all locks
        try:
            await refuse_erased(connection, tenant_id, subject_key)
        except SubjectErased as error:
            erased[subject_key] = error
    return erased


def _values(image: Image) -> tuple[object, ...]:
    return (
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
        json.dumps(image.tags),
        image.create_time,
        image.has_metadata,
        *facts_to_row(image.facts),
    )


async def finish(tenant_id: str, images: Sequence[Image]) -> list[bool]:
    """Makes images visible whose objects are stored; returns False for those whose lease has ended.

    Raises:
        DependencyDown: the database does not answer.
    """
    ids = [image.image_id for image in images]
    terms = [(image.image_id, term) for image in images for term in image_term.terms_of(image)]
    async with connected() as connection:
        rows = await connection.fetch(FINISH, tenant_id, ids, *columns_of(terms, 2))
    done = {row["image_id"] for row in rows}
    return [image_id in done for image_id in ids]


async def remove_silent(limit: int) -> int:
    """Removes images that were not finished within their lease; returns how many.

    Raises:
        DependencyDown: the database does not answer.
    """
    now = clock.now()
    async with transaction() as connection:
        rows = await connection.fetch(DELETE_SILENT, now, limit)
        for row in rows:
            keys = [str(row["object_key"])]
            await removal.add_images(connection, str(row["tenant_id"]), "", now, keys)
    return len(rows)


async def get(tenant_id: str, image_id: str) -> Image | None:
    """Returns an image; None if the tenant has no such image.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        row = await connection.fetchrow(GET, tenant_id, image_id)
    return _image(cast("ImageRow", row)) if row else None


async def get_many(tenant_id: str, image_ids: Sequence[str]) -> dict[str, Image]:
    """Returns images by their ids; those that the tenant does not have are missing.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(GET_MANY, tenant_id, list(image_ids))
    return {row["image_id"]: _image(row) for row in cast("Sequence[ImageRow]", rows)}


async def find(tenant_id: str, wanted: Sequence[tuple[str, str]]) -> list[Image | None]:
    """Returns the images of some bytes; None for those that are not stored for the subject.

    Args:
        tenant_id: the tenant.
        wanted: the keys of subjects, each with the SHA-256 of bytes that were sent.

    Raises:
        DependencyDown: the database does not answer.
    """
    values = [(tenant_id, *one) for one in wanted]
    async with connected() as connection:
        rows = cast("Sequence[ImageRow]", await connection.fetchmany(FIND, values))
    found = {(row["subject_key"], row["sha256"]): _image(row) for row in rows}
    return [found.get(one) for one in wanted]


async def list_images(
    tenant_id: str,
    search: ImageFilter,
    subject_key: str,
    before: tuple[datetime, str],
    limit: int,
) -> list[Image]:
    """Returns the images of a search before a position, newest first.

    Args:
        tenant_id: the tenant.
        search: what they must have.
        subject_key: the key of its subject; empty for none.
        before: a time and an id.
        limit: the maximum number of images.

    Raises:
        DependencyDown: the database does not answer.
    """
    query, terms = search_query(search, subject_key)
    before = min(before, (search.end_time, "")) if search.end_time else before
    start_time = search.start_time or FIRST_TIME
    async with transaction() as connection:
        if terms:
            await connection.execute(CUSTOM_PLAN)
        rows = await connection.fetch(query, tenant_id, *before, start_time, limit, *terms)
    return [_image(row) for row in cast("Sequence[ImageRow]", rows)]


def search_query(search: ImageFilter, subject_key: str) -> tuple[str, list[str | float]]:
    """Returns the query of a search, and its values after the five that all searches have."""
    terms = image_term.wanted_terms(search, subject_key)
    if search.near:
        confidences = search.confidences or ()
        keys = image_term.near_query(len(terms), has_confidences=bool(confidences))
        near = hash_to_bigint(search.near.perceptual_hash), search.near.max_distance_bits
        return f"WITH found AS ({keys}) {FOUND}", [*near, *terms, *confidences]
    if not terms:
        return LIST, []
    confidences = search.confidences or ()
    keys = image_term.keys_query(len(terms), has_confidences=bool(confidences))
    return f"WITH found AS ({keys}) {FOUND}", [*terms, *confidences]


async def update(tenant_id: str, image_id: str, changes: ImageChanges) -> bool:
    """Changes an image; returns False if the tenant has no such image.

    Raises:
        DependencyDown: the database does not answer.
    """
    name, tags = changes.filename, changes.tags
    async with transaction() as connection:
        create_time = cast(
            "datetime | None",
            await connection.fetchval(
                UPDATE, tenant_id, image_id, name, None if tags is None else list(tags)
            ),
        )
        if create_time is None:
            return False
        parts = [
            (image_term.NAME, None if name is None else image_term.name_terms(name)),
            (image_term.TAG, None if tags is None else image_term.tag_terms(tags)),
        ]
        changes_of_terms = [
            image_term.TermChange(tenant_id, image_id, create_time, [kind], terms)
            for kind, terms in parts
            if terms is not None
        ]
        await image_term.set_terms(connection, changes_of_terms)
    return True


async def delete(tenant_id: str, image_id: str, now: datetime) -> bool:
    """Deletes an image with all that refers to it; its object is removed later.

    Returns:
        False if the tenant has no such image.

    Raises:
        LegallyHeld: the image, its subject or the tenant is held.
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        row = await connection.fetchrow(LOCK_TO_DELETE, tenant_id, image_id)
        if row is None:
            return False
        targets = legal_hold.targets_of(str(row["subject_key"]), image_id)
        await legal_hold.refuse_held(connection, tenant_id, targets)
        await remove(connection, tenant_id, [image_id], now)
        action = AuditAction.IMAGE_DELETE
        await audit.record_event(connection, tenant_id, action, image_id, now)
    return True


async def remove(
    connection: Connection, tenant_id: str, image_ids: Sequence[str], now: datetime
) -> None:
    """Removes images with all that refers to them; their objects are removed later.

    The transaction has locked them, and nothing holds them.
    """
    ids = list(image_ids)
    renditions = await connection.fetch(DELETE_RENDITIONS, tenant_id, ids)
    images = await connection.fetch(DELETE, tenant_id, ids)
    keys = dict.fromkeys(str(row["object_key"]) for row in (*images, *renditions))
    await removal.add_images(connection, tenant_id, "", now, list(keys))


async def list_results(tenant_id: str, image_id: str) -> list[ImageResult]:
    """Returns the results of an image, the oldest first; `MAX_RESULTS` at most.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(RESULTS, tenant_id, image_id, MAX_RESULTS)
    return [_result(row, row["create_time"]) for row in cast("Sequence[ResultRow]", rows)]


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
        facts=facts_from_row(row),
        has_metadata=row["has_metadata"],
        result=result,
    )


def _result(row: ResultRow | ImageRow, create_time: datetime) -> ImageResult:
    assert row["result_id"] is not None
    return ImageResult(
        row["result_id"],
        row["image_id"],
        predictions_from_json(row["predictions"]),
        ModelRef(row["model_name"], row["model_version"], row["model_digest"]),
        create_time,
    )
