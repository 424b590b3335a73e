"""Statements about the chains of the audit: the last one of each, until and after it is stored.

A statement is written here first, and then to the object store.  A process that dies in between
leaves one that is not stored: it is stored next, before another one follows it.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from image_categorizer_server.db import legal_hold
from image_categorizer_server.db.audit import head_from_row
from image_categorizer_server.db.database import Connection, connected, transaction
from image_categorizer_server.db.locks import AUDIT_LOCK, try_lock, unlock
from image_categorizer_server.domain.audit import Head
from image_categorizer_server.domain.legal_hold import WHOLE_TENANT

UNSTORED = "SELECT * FROM audit_statements WHERE NOT is_stored ORDER BY tenant_id"
GROWN = """
SELECT h.* FROM audit_heads h LEFT JOIN audit_statements s USING (tenant_id)
WHERE h.seq > coalesce(s.seq, 0) ORDER BY h.tenant_id
"""
WRITE = """
INSERT INTO audit_statements VALUES ($1, $2, $3, $4, $5, false)
ON CONFLICT (tenant_id) DO UPDATE SET seq = $2, removed_seq = $3, object_key = $4, content = $5,
    is_stored = false
"""
# The event before the first that is young; the last one of a chain stays in any case.  Times follow
# the numbers to within minutes, the longest transaction.
OLD = """
SELECT e.tenant_id, e.seq, e.hash FROM audit_heads h
LEFT JOIN retention r ON r.tenant_id = h.tenant_id AND r.data_class = 'AUDIT'
LEFT JOIN LATERAL (
    SELECT y.seq FROM audit_events y WHERE y.tenant_id = h.tenant_id
        AND y.create_time >= $1::timestamptz - coalesce(r.days, $2) * interval '24 hours'
    ORDER BY y.create_time, y.seq LIMIT 1) young ON true
JOIN audit_events e ON e.tenant_id = h.tenant_id AND e.seq = coalesce(young.seq, h.seq) - 1
WHERE e.seq > h.removed_seq AND coalesce(r.days, $2) > 0 AND NOT EXISTS (
    SELECT FROM legal_holds l
    WHERE l.tenant_id = h.tenant_id AND l.target = 'tenant:' AND l.end_time IS NULL)
ORDER BY 1
"""
COUNT = """
SELECT count(*) AS count, coalesce(sum(pg_column_size(e.*)), 0)::bigint AS size_bytes,
    min(e.create_time) AS oldest_time
FROM audit_events e JOIN audit_heads h ON h.tenant_id = e.tenant_id AND e.seq < h.seq
WHERE e.tenant_id = $1 AND e.create_time < $2
"""


@dataclass(frozen=True, slots=True)
class StoredStatement:
    """A statement as it is in the object store, or is to be."""

    tenant_id: str
    object_key: str
    content: str


@asynccontextmanager
async def sole_process() -> AsyncIterator[bool]:
    """Yields whether this process, and no other, makes statements during the block.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        if not await try_lock(connection, AUDIT_LOCK):
            yield False
            return
        try:
            yield True
        finally:
            await unlock(connection, AUDIT_LOCK)


async def unstored() -> list[StoredStatement]:
    """Returns the statements that may not be in the object store yet.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(UNSTORED)
    return [
        StoredStatement(str(row["tenant_id"]), str(row["object_key"]), str(row["content"]))
        for row in rows
    ]


async def grown() -> list[Head]:
    """Returns the heads about which the last statement says less.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        return [head_from_row(row) for row in await connection.fetch(GROWN)]


async def last_statement(tenant_id: str) -> str | None:
    """Returns the content of the last statement about a chain; None if there is none.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        found = await connection.fetchval(
            "SELECT content FROM audit_statements WHERE tenant_id = $1", tenant_id
        )
    return None if found is None else str(found)


async def write(statement: StoredStatement, head: Head) -> None:
    """Writes a statement that is to be stored.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        await connection.execute(
            WRITE,
            statement.tenant_id,
            head.seq,
            head.removed_seq,
            statement.object_key,
            statement.content,
        )


async def mark_stored(statement: StoredStatement) -> None:
    """Records that a statement is in the object store.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        await connection.execute(
            "UPDATE audit_statements SET is_stored = true WHERE tenant_id = $1 AND object_key = $2",
            statement.tenant_id,
            statement.object_key,
        )


async def find_old(now: datetime, default_days: int) -> list[tuple[str, int, str]]:
    """Returns tenant, number and hash of the last event that is too old, of chains that have any.

    Args:
        now: the current time.
        default_days: how long tenants without a rule of their own keep events; 0: for ever.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(OLD, now, default_days)
    return [(str(r["tenant_id"]), cast("int", r["seq"]), str(r["hash"])) for r in rows]


async def count_events(tenant_id: str, before: datetime) -> tuple[int, int, datetime | None, int]:
    """Returns how many events may go, their bytes, the oldest time, and how many are held.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        is_held = await legal_hold.is_held(connection, tenant_id, [WHOLE_TENANT])
        row = await connection.fetchrow(COUNT, tenant_id, before)
    assert row is not None, "it counts"
    count, size_bytes = cast("int", row["count"]), cast("int", row["size_bytes"])
    if is_held:
        return 0, 0, None, count
    return count, size_bytes, cast("datetime | None", row["oldest_time"]), 0


async def remove_events(connection: Connection, tenant_id: str, up_to: int, most: int) -> int:
    """Removes the oldest events of a chain up to one; returns how many, `most` at most.

    Removes none while a legal hold keeps all of the tenant.

    Raises:
        DependencyDown: the database does not answer.
    """
    if await legal_hold.is_held(connection, tenant_id, [WHOLE_TENANT]):
        return 0
    removed = await connection.fetchval(
        "SELECT remove_audit_events($1, $2, $3)", tenant_id, up_to, most
    )
    return cast("int", removed)
