"""The record of predictions: images by tenant, day, version, and first category or confidence."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date
from typing import cast

from image_categorizer_server.db.database import Row, connected, transaction
from image_categorizer_server.domain.drift import Counts, Days, Version

Key = tuple[str, date, str, int, str, str]
"""Tenant, day, model, version, kind and bucket."""
CATEGORY, CONFIDENCE = "category", "confidence"
"""The kinds of buckets.  A third one, `checked`, notes that somebody has looked for drift."""
MAX_CATEGORIES_A_DAY = 200

ADD = """
INSERT INTO prediction_daily (tenant_id, day, model_name, model_version, kind, bucket, images)
SELECT * FROM unnest($1::text[], $2::date[], $3::text[], $4::int[], $5::text[], $6::text[],
    $7::bigint[])
ON CONFLICT (tenant_id, day, model_name, model_version, kind, bucket) DO UPDATE SET
    images = prediction_daily.images + excluded.images
"""
READ = """
SELECT kind, bucket, sum(images)::bigint AS images FROM prediction_daily
WHERE {tenant} AND model_name = $2 AND model_version = $3 AND day >= $4 AND day <= $5
    AND kind <> 'checked'
GROUP BY kind, bucket
"""
BY_DAY = """
SELECT day, sum(images)::bigint AS images FROM prediction_daily
WHERE {tenant} AND model_name = $2 AND model_version = $3 AND day >= $4 AND day <= $5
    AND kind = 'confidence'
GROUP BY day
"""
OF_TENANT, OF_ALL = "tenant_id = $1", "$1::text = ''"
BUSIEST = """
SELECT tenant_id, model_name, model_version FROM prediction_daily
WHERE day >= $1 AND day <= $2 AND kind = 'confidence'
GROUP BY tenant_id, model_name, model_version
ORDER BY sum(images) DESC, tenant_id, model_name, model_version LIMIT $3
"""
BUSIEST_OF_ALL = """
SELECT '' AS tenant_id, model_name, model_version FROM prediction_daily
WHERE day >= $1 AND day <= $2 AND kind = 'confidence'
GROUP BY model_name, model_version
ORDER BY sum(images) DESC, model_name, model_version LIMIT $3
"""
# Whoever inserts the row checks; the others find it there.
CLAIM = """
INSERT INTO prediction_daily (tenant_id, day, model_name, model_version, kind, bucket, images)
SELECT tenant_id, day, model_name, model_version, 'checked', '', 0 FROM (
    SELECT DISTINCT tenant_id, day, model_name, model_version FROM prediction_daily p
    WHERE day = $1 AND kind = 'confidence' AND NOT EXISTS (
        SELECT FROM prediction_daily c WHERE c.tenant_id = p.tenant_id AND c.day = p.day
            AND c.model_name = p.model_name AND c.model_version = p.model_version
            AND c.kind = 'checked')
    LIMIT $2) due
ON CONFLICT DO NOTHING
RETURNING tenant_id, model_name, model_version
"""
# What is rare on a day becomes one row.
RARE = """
WITH ranked AS (
    SELECT tenant_id, day, model_name, model_version, bucket, images, row_number() OVER (
        PARTITION BY tenant_id, day, model_name, model_version ORDER BY images DESC, bucket
    ) AS place
    FROM prediction_daily WHERE day = $1 AND kind = 'category' AND bucket <> 'other'
), gone AS (
    DELETE FROM prediction_daily p USING ranked r
    WHERE r.place > $2 AND p.kind = 'category' AND p.tenant_id = r.tenant_id
        AND p.day = r.day AND p.model_name = r.model_name AND p.model_version = r.model_version
        AND p.bucket = r.bucket
    RETURNING p.tenant_id, p.day, p.model_name, p.model_version, p.images
)
INSERT INTO prediction_daily (tenant_id, day, model_name, model_version, kind, bucket, images)
SELECT tenant_id, day, model_name, model_version, 'category', 'other', sum(images) FROM gone
GROUP BY tenant_id, day, model_name, model_version
ON CONFLICT (tenant_id, day, model_name, model_version, kind, bucket) DO UPDATE SET
    images = prediction_daily.images + excluded.images
"""
REMOVE = """
DELETE FROM prediction_daily WHERE ctid IN (
    SELECT ctid FROM prediction_daily WHERE day < $1 LIMIT $2)
"""


async def add(counted: Mapping[Key, int]) -> None:
    """Adds to the record.  The rows are locked in one order, so there are no deadlocks.

    Raises:
        DependencyDown: the database does not answer.
    """
    if not counted:
        return
    rows = [(*key, images) for key, images in sorted(counted.items())]
    async with connected() as connection:
        await connection.execute(ADD, *(list(column) for column in zip(*rows, strict=True)))


def _of(query: str, version: Version) -> str:
    return query.format(tenant=OF_TENANT if version.tenant_id else OF_ALL)


async def read(version: Version, days: Days) -> Counts:
    """Returns what a version predicted in some days.

    Raises:
        DependencyDown: the database does not answer.
    """
    key = version.tenant_id, version.model, version.number
    async with connected() as connection:
        rows = await connection.fetch(_of(READ, version), *key, days.first, days.last)
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for row in rows:
        found[cast("str", row["kind"])][cast("str", row["bucket"])] = cast("int", row["images"])
    categories, confidences = found[CATEGORY], found[CONFIDENCE]
    return Counts(days, sum(categories.values()), categories, confidences)


async def images_by_day(version: Version, days: Days) -> dict[date, int]:
    """Returns the images of each day that has any.

    Raises:
        DependencyDown: the database does not answer.
    """
    key = version.tenant_id, version.model, version.number
    async with connected() as connection:
        rows = await connection.fetch(_of(BY_DAY, version), *key, days.first, days.last)
    return {cast("date", row["day"]): cast("int", row["images"]) for row in rows}


async def busiest(days: Days, limit: int, *, of_all: bool) -> list[Version]:
    """Returns the versions that have predicted most in some days.

    Args:
        days: the days.
        limit: the maximum number of versions.
        of_all: whether the images of all tenants count together: then no version names a tenant.

    Raises:
        DependencyDown: the database does not answer.
    """
    query = BUSIEST_OF_ALL if of_all else BUSIEST
    async with connected() as connection:
        rows = await connection.fetch(query, days.first, days.last, limit)
    return _versions(rows)


async def claim_unchecked(day: date, limit: int) -> list[Version]:
    """Returns versions that nobody has checked for a day, each once, to whoever asks first.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(CLAIM, day, limit)
    return _versions(rows)


def _versions(rows: Sequence[Row]) -> list[Version]:
    return [
        Version(
            cast("str", row["tenant_id"]),
            cast("str", row["model_name"]),
            cast("int", row["model_version"]),
        )
        for row in rows
    ]


async def merge_rare(day: date) -> None:
    """Counts the categories that are rare on a day together; call it once the day is over.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        await connection.execute(RARE, day, MAX_CATEGORIES_A_DAY)


async def remove_before(day: date, limit: int) -> bool:
    """Removes up to `limit` rows of days before `day`; returns whether there may be more.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        done = await connection.execute(REMOVE, day, limit)
    return done == f"DELETE {limit}"
