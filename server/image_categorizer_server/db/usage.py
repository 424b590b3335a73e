"""The record of usage: sums by tenant, day, key and model."""

from collections.abc import Mapping
from datetime import date
from typing import cast

from image_categorizer_server.db.database import Connection, connected
from image_categorizer_server.domain.usage import Usage, UsageGroup, UsageKey, UsageRow

ADD = """
INSERT INTO usage_daily (tenant_id, day, key_id, model, images, cached_images, failed, bytes,
    model_ms)
SELECT * FROM unnest($1::text[], $2::date[], $3::text[], $4::text[], $5::bigint[], $6::bigint[],
    $7::bigint[], $8::bigint[], $9::float8[])
ON CONFLICT (tenant_id, day, key_id, model) DO UPDATE SET
    images = usage_daily.images + excluded.images,
    cached_images = usage_daily.cached_images + excluded.cached_images,
    failed = usage_daily.failed + excluded.failed,
    bytes = usage_daily.bytes + excluded.bytes,
    model_ms = usage_daily.model_ms + excluded.model_ms
"""
COLUMNS = {UsageGroup.DAY: "day", UsageGroup.KEY: "key_id", UsageGroup.MODEL: "model"}
# The name of the column is one of ours.
SUM = """
SELECT {column}, sum(images)::bigint AS images, sum(cached_images)::bigint AS cached_images,
    sum(failed)::bigint AS failed, sum(bytes)::bigint AS bytes, sum(model_ms) AS model_ms
FROM usage_daily WHERE tenant_id = $1 AND day >= $2 AND day <= $3
GROUP BY {column} ORDER BY {order} LIMIT $4
"""
ORDERS = {
    UsageGroup.DAY: "day",
    UsageGroup.KEY: "images DESC, 1",
    UsageGroup.MODEL: "model_ms DESC, 1",
}
REMOVE = """
DELETE FROM usage_daily WHERE ctid IN (SELECT ctid FROM usage_daily WHERE day < $1 LIMIT $2)
"""


async def add(connection: Connection, used: Mapping[UsageKey, Usage]) -> None:
    """Adds to the record.  The rows are locked in one order, so there are no deadlocks.

    Args:
        connection: may have a transaction open, which then holds the locks of the rows.
        used: what to add.
    """
    if not used:
        return
    rows = [
        (
            *(key.tenant_id, key.day, key.key_id, key.model),
            *(usage.images, usage.cached_images, usage.failed, usage.bytes, usage.model_ms),
        )
        for key, usage in sorted(used.items(), key=lambda item: item[0])
    ]
    await connection.execute(ADD, *(list(column) for column in zip(*rows, strict=True)))


async def read(
    tenant_id: str, start: date, end: date, group: UsageGroup, limit: int
) -> list[UsageRow]:
    """Returns the usage of a tenant.

    Args:
        tenant_id: the tenant.
        start: the first day.
        end: the last day.
        group: by what it is summed up.
        limit: the maximum number of rows.

    Returns:
        By day in their order, by key or model those with the most images or model time first.

    Raises:
        DependencyDown: the database does not answer.
    """
    query = SUM.format(column=COLUMNS[group], order=ORDERS[group])
    async with connected() as connection:
        rows = await connection.fetch(query, tenant_id, start, end, limit)
    return [
        UsageRow(
            day=cast("date", row["day"]) if group is UsageGroup.DAY else None,
            key_id=cast("str", row["key_id"]) if group is UsageGroup.KEY else None,
            model=cast("str", row["model"]) if group is UsageGroup.MODEL else None,
            usage=Usage(
                images=cast("int", row["images"]),
                cached_images=cast("int", row["cached_images"]),
                failed=cast("int", row["failed"]),
                bytes=cast("int", row["bytes"]),
                model_ms=cast("float", row["model_ms"]),
            ),
        )
        for row in rows
    ]


async def remove_before(day: date, limit: int) -> bool:
    """Removes up to `limit` rows of days before `day`; returns whether there may be more.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        done = await connection.execute(REMOVE, day, limit)
    return done == f"DELETE {limit}"
