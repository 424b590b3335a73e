"""Retention: what tenants keep for how long, and the removal of what is older.

One transaction removes some rows of one class of one tenant.  What a legal hold keeps is passed
over.  Objects in the storage go through `removal`, which alone decides about them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, cast

from image_categorizer_server import failpoints
from image_categorizer_server.db import audit, image, removal
from image_categorizer_server.db.audit_statement import count_events
from image_categorizer_server.db.database import Connection, connected, transaction
from image_categorizer_server.db.locks import share_holds
from image_categorizer_server.domain.audit import AuditAction, utc_text
from image_categorizer_server.domain.retention import DataClass


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the rows of a class are."""

    tables: str
    """With the row `t`, which has the tenant."""
    time: str
    """What the age is counted from."""
    is_ready: str
    """What must be true of rows that may go."""
    subject: str
    """The key of the subject."""
    size: str
    """The size in bytes."""
    image: str = "''"
    """The image that is, or has, the row."""

    def is_held(self) -> str:
        """Returns the condition that a legal hold keeps a row."""
        targets = f"'tenant:', 'subject:' || {self.subject}, 'image:' || {self.image}"
        # One look into an index for each row: PostgreSQL would join all rows with all holds.
        return (
            "(SELECT true FROM legal_holds h WHERE h.tenant_id = t.tenant_id"  # noqa: S608
            f" AND h.end_time IS NULL AND h.target IN ({targets}) LIMIT 1) IS NOT NULL"
        )


SOURCES = {
    DataClass.IMAGES: _Source(
        "images t",
        "t.create_time",
        "t.lease_until IS NULL",
        "t.subject_key",
        "t.size_bytes",
        "t.image_id",
    ),
    DataClass.RESULTS: _Source(
        "image_results t JOIN images i ON i.tenant_id = t.tenant_id AND i.image_id = t.image_id",
        "t.create_time",
        "true",
        "i.subject_key",
        "pg_column_size(t.*)",
        "t.image_id",
    ),
    DataClass.BATCHES: _Source("batches t", "t.end_time", "true", "t.subject_key", "t.image_bytes"),
    DataClass.DELIVERIES: _Source(
        "webhook_deliveries t",
        "t.end_time",
        "t.end_time IS NOT NULL",
        "t.subject_key",
        "pg_column_size(t.*)",
    ),
}
"""Of all classes but the audit, whose chain is cut elsewhere."""

RULES = "SELECT data_class, days FROM retention WHERE tenant_id = $1"
SET_RULE = """
INSERT INTO retention (tenant_id, data_class, days) VALUES ($1, $2, $3)
ON CONFLICT (tenant_id, data_class) DO UPDATE SET days = excluded.days
"""
DROP_RULE = "DELETE FROM retention WHERE tenant_id = $1 AND data_class = $2"
# A tenant is looked at only if something of it may go: its oldest rows, up to the first such one.
DUE = """
SELECT d.* FROM (
    SELECT n.tenant_id, $1::timestamptz - coalesce(r.days, $2::float8) * interval '24 hours'
        AS before
    FROM tenants n LEFT JOIN retention r ON r.tenant_id = n.tenant_id AND r.data_class = $3
    WHERE n.state <> 'DELETING' AND coalesce(r.days, $2::float8) > 0) d
CROSS JOIN LATERAL (
    SELECT true FROM {tables} WHERE t.tenant_id = d.tenant_id AND {time} < d.before
        AND {is_ready} AND NOT {is_held}
    ORDER BY {time} LIMIT 1) o
ORDER BY d.tenant_id LIMIT $4
"""
PREVIEW = """
SELECT count(*) FILTER (WHERE NOT is_held) AS count,
    coalesce(sum(size_bytes) FILTER (WHERE NOT is_held), 0)::bigint AS size_bytes,
    min(time) FILTER (WHERE NOT is_held) AS oldest_time,
    count(*) FILTER (WHERE is_held) AS held_count
FROM (SELECT {time} AS time, {size} AS size_bytes, {is_held} AS is_held FROM {tables}
    WHERE t.tenant_id = $1 AND {time} < $2 AND {is_ready}) f
"""
OLD = """
SELECT {columns} FROM {tables} WHERE t.tenant_id = $1 AND {time} < $2 AND {is_ready}
    AND NOT {is_held} ORDER BY {time} LIMIT $3
"""
# Rows that another transaction holds are left for the next page.
OLD_AND_LOCKED = f"{OLD}FOR UPDATE OF t SKIP LOCKED"
# In one order, as whoever adds results does.
LOCK_IMAGES = """
SELECT FROM images WHERE tenant_id = $1 AND image_id = ANY ($2::text[])
ORDER BY image_id FOR NO KEY UPDATE
"""
REMOVE_RESULTS = "DELETE FROM image_results WHERE tenant_id = $1 AND result_id = ANY ($2::text[])"
# The terms are those of the newest result, which goes last.  Then there is nothing to review.
REMOVE_TERMS = """
WITH bare AS (
    SELECT i.image_id FROM unnest($2::text[]) i (image_id) WHERE NOT EXISTS (
        SELECT FROM image_results r WHERE r.tenant_id = $1 AND r.image_id = i.image_id)),
reviews AS (
    DELETE FROM review_queue q USING bare WHERE q.tenant_id = $1 AND q.image_id = bare.image_id)
DELETE FROM image_terms m USING bare
WHERE m.tenant_id = $1 AND m.image_id = bare.image_id
    AND split_part(m.term, ':', 1) IN ('category', 'model', 'review')
"""
REMOVE_DELIVERIES = "DELETE FROM webhook_deliveries WHERE id = ANY ($1::bigint[])"
TENANTS_AT_ONCE = 1000


class Old(NamedTuple):
    """A tenant that has something older than a time."""

    tenant_id: str
    before: datetime


class Forecast(NamedTuple):
    """What would be removed; see `RetentionForecast`."""

    number: int
    size_bytes: int
    oldest_time: datetime | None
    held_count: int


NOTHING = Forecast(0, 0, None, 0)


async def own_days(tenant_id: str) -> dict[DataClass, int]:
    """Returns how many days a tenant keeps what it does not keep as the settings say.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(RULES, tenant_id)
    return {DataClass(str(row["data_class"])): cast("int", row["days"]) for row in rows}


async def set_days(tenant_id: str, changes: Mapping[DataClass, int | None], now: datetime) -> None:
    """Changes how many days a tenant keeps data; None for the default.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        for data_class, days in changes.items():
            if days is None:
                await connection.execute(DROP_RULE, tenant_id, data_class.value)
            else:
                await connection.execute(SET_RULE, tenant_id, data_class.value, days)
            action = AuditAction.RETENTION_UPDATE
            await audit.record_event(
                connection, tenant_id, action, data_class.value, now, days=days
            )


async def find_due(data_class: DataClass, default_days: float, now: datetime) -> list[Old]:
    """Returns tenants that have something of a class that is too old, and is not held.

    Raises:
        DependencyDown: the database does not answer.
    """
    query = _filled(DUE, data_class)
    values = now, default_days, data_class.value, TENANTS_AT_ONCE
    async with connected() as connection:
        rows = await connection.fetch(query, *values)
    return [Old(str(row["tenant_id"]), cast("datetime", row["before"])) for row in rows]


async def preview(data_class: DataClass, tenant_id: str, before: datetime) -> Forecast:
    """Returns what is older than a time.

    Raises:
        DependencyDown: the database does not answer.
    """
    if data_class is DataClass.AUDIT:
        return Forecast(*await count_events(tenant_id, before))
    async with connected() as connection:
        row = await connection.fetchrow(_filled(PREVIEW, data_class), tenant_id, before)
    assert row is not None
    return Forecast(*row.values())  # type: ignore[arg-type]


async def remove(data_class: DataClass, old: Old, limit: int, now: datetime) -> int:
    """Removes the oldest rows of a class; returns how many: none if all that is left is held.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        await share_holds(connection, old.tenant_id)
        count = await _REMOVERS[data_class](connection, old, limit, now)
        if count:
            await audit.record_event(
                connection,
                old.tenant_id,
                AuditAction.RETENTION_REMOVED,
                data_class.value,
                now,
                count=count,
                before=utc_text(old.before),
            )
        failpoints.hit("retention.removing")
    failpoints.hit("retention.removed")
    return count


async def _remove_images(connection: Connection, old: Old, limit: int, now: datetime) -> int:
    ids = await _find(connection, DataClass.IMAGES, "t.image_id", old, limit)
    await image.remove(connection, old.tenant_id, cast("list[str]", ids), now)
    return len(ids)


async def _remove_results(connection: Connection, old: Old, limit: int, _: datetime) -> int:
    # The images are locked first, as whoever adds a result does.
    query = _filled(OLD, DataClass.RESULTS, columns="t.result_id, t.image_id")
    found = await connection.fetch(query, old.tenant_id, old.before, limit)
    images = sorted({str(row["image_id"]) for row in found})
    await connection.execute(LOCK_IMAGES, old.tenant_id, images)
    ids = [str(row["result_id"]) for row in found]
    done = await connection.execute(REMOVE_RESULTS, old.tenant_id, ids)
    await connection.execute(REMOVE_TERMS, old.tenant_id, images)
    return int(done.rpartition(" ")[2])


async def _remove_batches(connection: Connection, old: Old, limit: int, now: datetime) -> int:
    ids = await _find(connection, DataClass.BATCHES, "t.batch_id", old, limit)
    await removal.remove_batches(connection, old.tenant_id, cast("list[str]", ids), now)
    return len(ids)


async def _remove_deliveries(connection: Connection, old: Old, limit: int, _: datetime) -> int:
    ids = await _find(connection, DataClass.DELIVERIES, "t.id", old, limit)
    await connection.execute(REMOVE_DELIVERIES, ids)
    return len(ids)


_REMOVERS = {
    DataClass.IMAGES: _remove_images,
    DataClass.RESULTS: _remove_results,
    DataClass.BATCHES: _remove_batches,
    DataClass.DELIVERIES: _remove_deliveries,
}


async def _find(
    connection: Connection, data_class: DataClass, column: str, old: Old, limit: int
) -> Sequence[object]:
    query = _filled(OLD_AND_LOCKED, data_class, columns=column)
    rows = await connection.fetch(query, old.tenant_id, old.before, limit)
    return [next(iter(row.values())) for row in rows]


def _filled(query: str, data_class: DataClass, **parts: str) -> str:
    source = SOURCES[data_class]
    return query.format(
        tables=source.tables,
        time=source.time,
        is_ready=source.is_ready,
        size=source.size,
        is_held=source.is_held(),
        **parts,
    )
