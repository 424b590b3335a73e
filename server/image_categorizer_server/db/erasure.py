"""Erasures: rows that are tombstones of subjects, and the removal of what the database holds."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import cast

from image_categorizer_server.db import audit, legal_hold, removal
from image_categorizer_server.db.database import Connection, connected, transaction
from image_categorizer_server.db.locks import lock_subject
from image_categorizer_server.db.tables import ErasureRow
from image_categorizer_server.db.tombstone import TOMBSTONE
from image_categorizer_server.domain.audit import AuditAction
from image_categorizer_server.domain.erasure import Erasure, ErasureState
from image_categorizer_server.errors import ErasureRunning

INSERT = """
INSERT INTO erasures (tenant_id, erasure_id, subject_key, state, step, counts, certificate,
    create_time, allow_time)
VALUES ($1, $2, $3, 'RUNNING', $4, '{}', '', $5, $6) ON CONFLICT DO NOTHING RETURNING *
"""
GET = "SELECT * FROM erasures WHERE tenant_id = $1 AND erasure_id = $2"
LIST = """
SELECT * FROM erasures WHERE tenant_id = $1 AND (create_time, erasure_id) < ($2, $3)
ORDER BY create_time DESC, erasure_id DESC LIMIT $4
"""
RUNNING = "SELECT * FROM erasures WHERE state = 'RUNNING' ORDER BY create_time LIMIT $1"
ALLOW = """
UPDATE erasures SET allow_time = $3
WHERE tenant_id = $1 AND erasure_id = $2 AND allow_time IS NULL RETURNING *
"""
ADVANCE = """
UPDATE erasures SET step = $4
WHERE tenant_id = $1 AND erasure_id = $2 AND step = $3 AND state = 'RUNNING'
"""
FINISH = """
UPDATE erasures SET state = 'DONE', step = '', certificate = $3, end_time = $4
WHERE tenant_id = $1 AND erasure_id = $2 AND state = 'RUNNING' RETURNING true
"""
COUNT = """
UPDATE erasures SET counts = counts || (
    SELECT jsonb_object_agg(key, value::bigint + coalesce((counts->>key)::bigint, 0))
    FROM jsonb_each_text($3::jsonb))
WHERE tenant_id = $1 AND erasure_id = $2
"""
# The names of objects are `<folder>/<tenant>/<erasure>`.  Of a tenant that is gone, all is.
UNKNOWN = """
SELECT k.name FROM unnest($2::text[]) AS k (name)
JOIN tenants t ON k.name = $1 || '/' || t.tenant_id || '/' || split_part(k.name, '/', 3)
WHERE NOT EXISTS (SELECT FROM erasures e
    WHERE e.tenant_id = t.tenant_id AND e.erasure_id = split_part(k.name, '/', 3))
ORDER BY k.name
"""
# The name of a tenant may be used again.
IS_OLDER = "SELECT true FROM tenants WHERE tenant_id = $1 AND create_time <= $2"
TAKE_BATCHES = """
SELECT batch_id, item_count, succeeded_count + failed_count AS result_count FROM batches
WHERE tenant_id = $1 AND subject_key = $2 LIMIT $3 FOR UPDATE
"""
COUNT_CHUNKS = "SELECT count(*) FROM batch_chunks WHERE batch_id = ANY($1::text[])"
# Uploads end by themselves, or when their lease does.  Rows go page by page, and what a process is
# removing from the storage will be gone soon.
IS_UNDER_WAY = """
SELECT EXISTS (SELECT FROM batch_uploads WHERE tenant_id = $1 AND subject_key = $2)
    OR EXISTS (SELECT FROM outbox WHERE tenant_id = $1 AND subject_key = $2
        AND kind IN ('rows', 'removing') AND done_time IS NULL)
"""
# Images that are to be removed go with the folder of the subject.
REMOVE_OUTBOX = """
DELETE FROM outbox WHERE outbox_id IN (
    SELECT outbox_id FROM outbox WHERE tenant_id = $1 AND subject_key = $2
    AND kind IN ('webhook', 'doorbell', 'blobs') LIMIT $3) RETURNING kind
"""
REMOVE_DELIVERIES = """
DELETE FROM webhook_deliveries WHERE id IN (
    SELECT id FROM webhook_deliveries WHERE tenant_id = $1 AND subject_key = $2 LIMIT $3)
RETURNING id
"""
# An image that is being stored has a lease: its object may come later than its row goes.
TAKE_IMAGES = """
SELECT image_id FROM images
WHERE tenant_id = $1 AND subject_key = $2 AND (lease_until IS NULL OR lease_until < $4)
LIMIT $3 FOR UPDATE
"""
DIGESTS = """
SELECT sha256 FROM images WHERE tenant_id = $1 AND subject_key = $2 AND sha256 > $3
ORDER BY sha256 LIMIT $4
"""
# All that goes with an image, whatever tables there are.
OF_IMAGES = """
SELECT conrelid::regclass::text AS name FROM pg_constraint
WHERE contype = 'f' AND confdeltype = 'c' AND confrelid = 'images'::regclass ORDER BY 1
"""
COUNT_OF_IMAGES = """
SELECT count(*) FROM {table} WHERE tenant_id = $1 AND image_id = ANY($2::text[])
"""
REMOVE_IMAGES = "DELETE FROM images WHERE tenant_id = $1 AND image_id = ANY($2::text[])"
HAS_IMAGES = "SELECT EXISTS (SELECT FROM images WHERE tenant_id = $1 AND subject_key = $2)"
REMOVE_KEYS = "DELETE FROM data_keys WHERE tenant_id = $1 AND subject_id = $2 RETURNING data_key_id"
# Rows that one transaction removes.
ROWS_AT_ONCE = 1000


async def begin(erasure: Erasure) -> Erasure:
    """Writes a tombstone; returns the one that the subject has, if it has one.

    Raises:
        LegallyHeld: something of the subject is held.
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        await lock_subject(connection, erasure.tenant_id, erasure.subject_key)
        found = await connection.fetchrow(TOMBSTONE, erasure.tenant_id, erasure.subject_key)
        if found is not None:
            return _erasure(cast("ErasureRow", found))
        await legal_hold.refuse_held_subject(connection, erasure.tenant_id, erasure.subject_key)
        await _insert(connection, erasure)
        await _record(connection, AuditAction.SUBJECT_ERASE, erasure, erasure.create_time)
    return erasure


async def find_unknown(folder: str, names: Sequence[str]) -> list[str]:
    """Returns the names of those erasures that the database has forgotten.

    Args:
        folder: of all erasures in the storage.
        names: `<folder>/<tenant>/<erasure>`.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(UNKNOWN, folder, list(names))
    return [str(row["name"]) for row in rows]


async def restore(erasure: Erasure) -> bool:
    """Writes an erasure again; returns False if it is there, or of an earlier tenant of the name.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        await lock_subject(connection, erasure.tenant_id, erasure.subject_key)
        is_older = await connection.fetchval(IS_OLDER, erasure.tenant_id, erasure.create_time)
        return bool(is_older) and await _insert(connection, erasure)


async def _insert(connection: Connection, erasure: Erasure) -> bool:
    inserted = await connection.fetchrow(
        INSERT,
        erasure.tenant_id,
        erasure.erasure_id,
        erasure.subject_key,
        erasure.step,
        erasure.create_time,
        erasure.allow_time,
    )
    return inserted is not None


async def get(tenant_id: str, erasure_id: str) -> Erasure | None:
    """Returns an erasure; None if the tenant has no such erasure.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        row = await connection.fetchrow(GET, tenant_id, erasure_id)
    return _erasure(cast("ErasureRow", row)) if row else None


async def list_erasures(tenant_id: str, before: tuple[datetime, str], limit: int) -> list[Erasure]:
    """Returns erasures before a position, newest first.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(LIST, tenant_id, *before, limit)
    return [_erasure(row) for row in cast("Sequence[ErasureRow]", rows)]


async def list_running(limit: int) -> list[Erasure]:
    """Returns erasures of all tenants that are not done, the oldest first.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(RUNNING, limit)
    return [_erasure(row) for row in cast("Sequence[ErasureRow]", rows)]


async def find_tombstone(tenant_id: str, subject_key: str) -> Erasure | None:
    """Returns the erasure that keeps a subject from being stored; None if there is none.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        row = await connection.fetchrow(TOMBSTONE, tenant_id, subject_key)
    return _erasure(cast("ErasureRow", row)) if row else None


async def allow(erasure: Erasure, now: datetime) -> None:
    """Ends the tombstone of a subject.

    Raises:
        ErasureRunning: the erasure is not done.
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        found = await connection.fetchrow(GET, erasure.tenant_id, erasure.erasure_id)
        if found and cast("ErasureRow", found)["state"] != ErasureState.DONE.value:
            raise ErasureRunning("the erasure of the subject is not done")
        if await connection.fetchrow(ALLOW, erasure.tenant_id, erasure.erasure_id, now):
            await _record(connection, AuditAction.SUBJECT_ALLOW, erasure, now)


async def advance(erasure: Erasure, next_step: str) -> None:
    """Notes that a step is done.

    Raises:
        DependencyDown: the database does not answer.
    """
    values = erasure.tenant_id, erasure.erasure_id, erasure.step, next_step
    async with connected() as connection:
        await connection.execute(ADVANCE, *values)


async def finish(erasure: Erasure, certificate: str, now: datetime) -> None:
    """Ends an erasure; does nothing if it has ended.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        values = erasure.tenant_id, erasure.erasure_id, certificate, now
        if await connection.fetchval(FINISH, *values):
            await _record(connection, AuditAction.SUBJECT_ERASED, erasure, now)


async def count(erasure: Erasure, removed: Mapping[str, int]) -> None:
    """Adds to what an erasure has removed.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        await _count(connection, erasure, removed)


async def is_under_way(erasure: Erasure) -> bool:
    """Returns whether somebody uploads or removes something of the subject.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        return bool(await connection.fetchval(IS_UNDER_WAY, erasure.tenant_id, erasure.subject_key))


async def remove_batches(erasure: Erasure, now: datetime, limit: int = ROWS_AT_ONCE) -> bool:
    """Removes some batches of the subject; `removal` removes their rows. False if none is left.

    Results that a worker writes afterwards find no batch.

    Raises:
        LegallyHeld: a new hold keeps something of the subject.
        DependencyDown: the database does not answer.
    """
    tenant_id, subject_key = erasure.tenant_id, erasure.subject_key
    async with transaction() as connection:
        rows = await connection.fetch(TAKE_BATCHES, tenant_id, subject_key, limit)
        if not rows:
            return False
        await _refuse_held(connection, erasure)
        ids = [str(row["batch_id"]) for row in rows]
        chunks = await connection.fetchval(COUNT_CHUNKS, ids)
        await removal.remove_batches(connection, tenant_id, ids, now)
        removed = {
            "batches": len(ids),
            "batch_items": sum(cast("int", row["item_count"]) for row in rows),
            "batch_results": sum(cast("int", row["result_count"]) for row in rows),
            "batch_chunks": cast("int", chunks),
        }
        await _count(connection, erasure, removed)
    return True


async def remove_messages(erasure: Erasure, limit: int = ROWS_AT_ONCE) -> bool:
    """Removes some messages about the subject, sent or not; returns False if none is left.

    Raises:
        LegallyHeld: a new hold keeps something of the subject.
        DependencyDown: the database does not answer.
    """
    subject = erasure.tenant_id, erasure.subject_key
    async with transaction() as connection:
        await _refuse_held(connection, erasure)
        # The outbox first: deliveries are made from it.
        rows = await connection.fetch(REMOVE_OUTBOX, *subject, limit)
        deliveries = await connection.fetch(REMOVE_DELIVERIES, *subject, limit)
        messages = sum(row["kind"] == "webhook" for row in rows)
        removed = {"webhook_messages": messages, "webhook_deliveries": len(deliveries)}
        await _count(connection, erasure, removed)
    return bool(rows or deliveries)


async def remove_images(erasure: Erasure, now: datetime, limit: int = ROWS_AT_ONCE) -> bool:
    """Removes some images of the subject, with all that refers to them; False if none is ready.

    Raises:
        LegallyHeld: a new hold keeps something of the subject.
        DependencyDown: the database does not answer.
    """
    tenant_id = erasure.tenant_id
    async with transaction() as connection:
        rows = await connection.fetch(TAKE_IMAGES, tenant_id, erasure.subject_key, limit, now)
        ids = [str(row["image_id"]) for row in rows]
        if not ids:
            return False
        await _refuse_held(connection, erasure)
        removed = {"images": len(ids)}
        for table in await connection.fetch(OF_IMAGES):
            query = COUNT_OF_IMAGES.format(table=table["name"])
            count = await connection.fetchval(query, tenant_id, ids)
            removed[str(table["name"])] = cast("int", count)
        await connection.execute(REMOVE_IMAGES, tenant_id, ids)
        await _count(connection, erasure, removed)
    return True


async def digests_after(erasure: Erasure, sha256: str, limit: int = ROWS_AT_ONCE) -> list[str]:
    """Returns SHA-256 digests of the subject's images as they were sent, above one, in order.

    Raises:
        DependencyDown: the database does not answer.
    """
    values = erasure.tenant_id, erasure.subject_key, sha256, limit
    async with connected() as connection:
        rows = await connection.fetch(DIGESTS, *values)
    return [str(row["sha256"]) for row in rows]


async def has_images(erasure: Erasure) -> bool:
    """Returns whether images of the subject are left: those that are being stored.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        return bool(await connection.fetchval(HAS_IMAGES, erasure.tenant_id, erasure.subject_key))


async def remove_data_keys(erasure: Erasure) -> None:
    """Removes the keys that encrypt objects of the subject.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        rows = await connection.fetch(REMOVE_KEYS, erasure.tenant_id, erasure.subject_key)
        await _count(connection, erasure, {"data_keys": len(rows)})


async def _refuse_held(connection: Connection, erasure: Erasure) -> None:
    """Passes an erasure, unless a hold that is newer keeps something of the subject.

    Older holds had ended when it began: an active one is of a database that was restored.

    Raises:
        LegallyHeld: something of the subject is held.
    """
    subject = erasure.tenant_id, erasure.subject_key
    await legal_hold.refuse_held_subject(connection, *subject, erasure.create_time)


async def _count(connection: Connection, erasure: Erasure, removed: Mapping[str, int]) -> None:
    await connection.execute(
        COUNT, erasure.tenant_id, erasure.erasure_id, json.dumps(dict(removed))
    )


async def _record(
    connection: Connection, action: AuditAction, erasure: Erasure, now: datetime
) -> None:
    await audit.record_event(
        connection,
        erasure.tenant_id,
        action,
        erasure.erasure_id,
        now,
        subject_key=erasure.subject_key,
    )


def _erasure(row: ErasureRow) -> Erasure:
    return Erasure(
        tenant_id=row["tenant_id"],
        erasure_id=row["erasure_id"],
        subject_key=row["subject_key"],
        state=ErasureState(row["state"]),
        step=row["step"],
        counts=json.loads(row["counts"]),
        certificate=row["certificate"],
        create_time=row["create_time"],
        end_time=row["end_time"],
        allow_time=row["allow_time"],
    )
