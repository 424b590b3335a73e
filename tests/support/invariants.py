"""Checks afterwards that batches lost nothing and did nothing twice: invariants I1 to I6.

I1  every acknowledged batch has ended
I2  every item of a completed batch has one outcome, and every outcome has its item
I3  the counters of batches and chunks are what the outcomes add up to
I4  every end of a batch made one message to its tenant, and one event in the audit
I5  every image to which an item refers is stored, and an item refers to every stored one
I6  every outcome is the right one for its image
"""

from collections.abc import Callable, Collection, Iterable

from image_categorizer_server.db.database import Connection, Row
from image_categorizer_server.stores.object_store import Storage

from tests.support.database import connect_as_owner

# Each query finds faults; its columns name them.
FAULTS = {
    "I2 a completed batch has items without an outcome": """
        SELECT b.batch_id, i.number FROM batches b JOIN batch_items i USING (batch_id)
        LEFT JOIN batch_results r ON r.batch_id = i.batch_id AND r.number = i.number
        WHERE b.state = 'COMPLETED' AND r.number IS NULL""",
    "I2 outcomes without an item": """
        SELECT r.batch_id, r.number FROM batch_results r
        LEFT JOIN batch_items i ON i.batch_id = r.batch_id AND i.number = r.number
        LEFT JOIN batches b ON b.batch_id = r.batch_id
        WHERE i.number IS NULL OR b.batch_id IS NULL OR b.tenant_id <> r.tenant_id""",
    "I2 a batch does not have the items that it counts": """
        SELECT b.batch_id, b.item_count, count(i.number) FROM batches b
        LEFT JOIN batch_items i USING (batch_id) GROUP BY b.batch_id
        HAVING b.item_count <> count(i.number) OR b.item_count <> max(i.number) + 1""",
    "I2 items without a batch or an upload": """
        SELECT DISTINCT i.batch_id FROM batch_items i
        WHERE NOT EXISTS (SELECT FROM batches b WHERE b.batch_id = i.batch_id)
        AND NOT EXISTS (SELECT FROM batch_uploads u WHERE u.batch_id = i.batch_id)""",
    "I3 wrong counters of a batch": """
        SELECT b.batch_id, b.succeeded_count, b.failed_count, count(r.number) FROM batches b
        LEFT JOIN batch_results r USING (batch_id) GROUP BY b.batch_id
        HAVING b.succeeded_count <> count(r.number) FILTER (WHERE r.status = 'OK')
        OR b.failed_count <> count(r.number) FILTER (WHERE r.status <> 'OK')""",
    "I3 a chunk has more done than outcomes": """
        SELECT c.batch_id, c.number, c.done_count, count(r.number) FROM batch_chunks c
        LEFT JOIN batch_results r ON r.batch_id = c.batch_id
        AND r.number >= c.first_item AND r.number < c.first_item + c.item_count
        WHERE c.state <> 'DONE' GROUP BY c.batch_id, c.number
        HAVING c.done_count <> count(r.number)""",
    "I3 chunks that are DONE and have work, or the reverse": """
        SELECT batch_id, number FROM batch_chunks
        WHERE (state = 'DONE') <> (done_count = item_count)""",
    "I3 an ended batch has work": """
        SELECT c.batch_id, c.number, c.state FROM batch_chunks c JOIN batches b USING (batch_id)
        WHERE b.state IN ('COMPLETED', 'CANCELLED', 'FAILED') AND c.state IN ('READY', 'LEASED')""",
    "I3 a running batch has items that no chunk holds": """
        SELECT b.batch_id, b.item_count FROM batches b JOIN batch_chunks c USING (batch_id)
        WHERE b.state IN ('QUEUED', 'RUNNING') GROUP BY b.batch_id
        HAVING sum(c.item_count - c.done_count)
            <> b.item_count - b.succeeded_count - b.failed_count""",
    "I4 a batch has more or fewer messages than ends": """
        SELECT b.batch_id, b.run_count, count(o.outbox_id) FROM batches b
        LEFT JOIN outbox o ON o.batch_id = b.batch_id AND o.kind = 'webhook' GROUP BY b.batch_id
        HAVING count(o.outbox_id) <> b.run_count - (b.end_time IS NULL)::int""",
    "I4 two messages about one end": """
        SELECT batch_id, payload->>'run' FROM outbox WHERE kind = 'webhook'
        GROUP BY 1, 2 HAVING count(*) > 1""",
    "I4 the audit has more or fewer events than ends": """
        SELECT b.batch_id, b.run_count, count(a.seq) FROM batches b
        LEFT JOIN audit_events a ON a.tenant_id = b.tenant_id AND a.resource = b.batch_id
        AND a.action IN ('batch.completed', 'batch.cancelled', 'batch.failed') GROUP BY b.batch_id
        HAVING count(a.seq) <> b.run_count - (b.end_time IS NULL)::int""",
    "I4 the audit does not name exactly the items that crashed processes": """
        SELECT batch_id, r.items, a.items FROM batches b CROSS JOIN LATERAL (
            SELECT array_agg(number ORDER BY number) AS items FROM batch_results
            WHERE batch_id = b.batch_id AND reason LIKE 'ITEM_KILLED_%') r
        CROSS JOIN LATERAL (
            SELECT array_agg((detail->>'number')::int ORDER BY (detail->>'number')::int) AS items
            FROM audit_events WHERE resource = b.batch_id AND action = 'batch.item_crashed') a
        WHERE run_count = 1 AND r.items IS DISTINCT FROM a.items""",
    "I4 wrong end time of a batch": """
        SELECT batch_id FROM batches WHERE (end_time IS NULL)
        <> (state NOT IN ('COMPLETED', 'CANCELLED', 'FAILED'))""",
}
RIGHT = """
SELECT r.batch_id, r.number, i.object_key, r.predictions->0->>'category' AS category
FROM batch_results r JOIN batch_items i ON i.batch_id = r.batch_id AND i.number = r.number
WHERE r.status = 'OK' AND i.object_key IS NOT NULL
"""


async def find_faults(
    url: str,
    acknowledged: Collection[str] = (),
    storage: Storage | None = None,
    category_of: Callable[[str], str] | None = None,
    must_have_ended: bool = True,
) -> list[str]:
    """Returns the faults, one line each; empty if all invariants hold.

    Args:
        url: the database, in which nothing changes any more.
        acknowledged: the batches that were created and not deleted.
        storage: keeps the images; None skips I5.
        category_of: returns the right category for the SHA-256 of an image; None skips I6.
        must_have_ended: whether to check I1.
    """
    connection = await connect_as_owner(url)
    try:
        faults = await _lost(connection, acknowledged, must_have_ended)
        for name, query in FAULTS.items():
            faults += [f"{name}: {tuple(row)}" for row in await connection.fetch(query)]
        if storage is not None:
            faults += await _blobs(connection, storage)
        if category_of is not None:
            faults += _wrong(await connection.fetch(RIGHT), category_of)
    finally:
        await connection.close()
    return faults


async def _lost(
    connection: Connection, acknowledged: Collection[str], must_have_ended: bool
) -> list[str]:
    rows = await connection.fetch("SELECT batch_id, state FROM batches")
    states = {row["batch_id"]: row["state"] for row in rows}
    faults = [f"I1 lost: {batch_id}" for batch_id in acknowledged if batch_id not in states]
    if must_have_ended:
        unended = {b: s for b, s in states.items() if s in ("QUEUED", "RUNNING", "CANCELLING")}
        faults += [f"I1 not ended: {batch_id} {state}" for batch_id, state in unended.items()]
    return faults


async def _blobs(connection: Connection, storage: Storage) -> list[str]:
    rows = await connection.fetch(
        "SELECT DISTINCT object_key FROM batch_items WHERE object_key IS NOT NULL"
    )
    referred = {str(row["object_key"]) for row in rows}
    stored = {found.key async for found in storage.list() if "/images/" in found.key}
    return [f"I5 not stored: {key}" for key in sorted(referred - stored)] + [
        f"I5 not referred to: {key}" for key in sorted(stored - referred)
    ]


def _wrong(rows: Iterable[Row], category_of: Callable[[str], str]) -> list[str]:
    faults = []
    for row in rows:
        right = category_of(str(row["object_key"]).rpartition("/")[2])
        if row["category"] != right:
            faults.append(f"I6 {row['batch_id']} {row['number']}: {row['category']}, not {right}")
    return faults
