"""A million items: every frequent statement uses an index, and claiming stays fast."""

import asyncio
import time

import pytest
from image_categorizer_server import clock
from image_categorizer_server.clock import jittered
from image_categorizer_server.db import batch as batches
from image_categorizer_server.db import chunk as chunks
from image_categorizer_server.db import outbox, removal
from image_categorizer_server.db import result as results
from image_categorizer_server.db.database import connected
from image_categorizer_server.settings.database import DatabaseSettings

from tests.support.batch_tools import do_chunk
from tests.support.database import connect_as_owner, open_for_all_tenants, run_as_owner
from tests.support.polling import elapsed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

BATCHES, ITEMS, CHUNK_ITEMS, TENANTS = 100, 10_000, 32, 10
CLAIMS, WORKERS = 3000, 8
MAX_P99_S = 0.020
FILL = [
    """
    INSERT INTO batches (batch_id, tenant_id, state, state_message, options, webhook_url, priority,
        item_count, succeeded_count, failed_count, run_count, created_by, create_time, mark_count,
        last_mark_count)
    SELECT 'b-' || n, 't' || n % $3::int, 'QUEUED', '', '{}', '', 0, $2, 0, 0, 1, 'key',
        $4::timestamptz + n * interval '1 ms', 0, 0
    FROM generate_series(1, $1::int) n
    """,
    """
    INSERT INTO batch_items (batch_id, number, tenant_id, filename, object_key, size_bytes)
    SELECT b.batch_id, n, b.tenant_id, n || '.jpg',
        b.tenant_id || '/images/' || md5(b.batch_id || n) || md5(n::text), 1000
    FROM batches b CROSS JOIN generate_series(0, $1::int - 1) n
    """,
    """
    INSERT INTO batch_chunks (batch_id, number, tenant_id, priority, first_item, item_count,
        done_count, state, lease_token, worker, worker_crashes, is_isolated, available_at)
    SELECT b.batch_id, n, b.tenant_id, b.priority, n * $2, least($2, $1 - n * $2), 0, 'READY', 0,
        '', 0, false, b.create_time
    FROM batches b CROSS JOIN generate_series(0, ($1::int - 1) / $2::int) n
    """,
]


@pytest.fixture
async def million(cluster):
    """A database with a million pending items."""
    connection = await connect_as_owner(cluster.postgres.url)
    batch_fill, item_fill, chunk_fill = FILL
    await connection.execute(batch_fill, BATCHES, ITEMS, TENANTS, clock.now())
    await connection.execute(item_fill, ITEMS, timeout=300)
    await connection.execute(chunk_fill, ITEMS, CHUNK_ITEMS, timeout=60)
    assert await connection.fetchval("SELECT count(*) FROM batch_items") == 1_000_000
    await connection.execute("VACUUM ANALYZE", timeout=300)
    await connection.close()
    async with open_for_all_tenants(cluster.postgres.url, DatabaseSettings(pool_size=WORKERS + 2)):
        yield


async def plan_of(query, *arguments):
    async with connected() as connection, connection.transaction():
        rows = await connection.fetch(f"EXPLAIN {query}", *arguments)
    return "\n".join(row[0] for row in rows)


async def test_claiming_and_recording_stay_fast(million):
    """Eight workers that finish 2,500 items a second together, and then as many as they can."""
    for pause_s in (0.1, 0.0):
        claim_s, record_s = [], []
        begin_s = time.perf_counter()
        await asyncio.gather(*(work(claim_s, record_s, pause_s) for _ in range(WORKERS)))
        items = len(claim_s) * CHUNK_ITEMS
        print(f"\n{items} items, {items / (time.perf_counter() - begin_s):.0f} items/s")
        show("claim", claim_s)
        show("record", record_s)
        if pause_s:
            assert share_of(claim_s, 0.99) <= MAX_P99_S


async def work(claim_s, record_s, pause_s):
    for _ in range(CLAIMS // WORKERS):
        await elapsed(jittered(pause_s))
        begin_s = time.perf_counter()
        chunk = await chunks.claim("w", 30)
        claim_s.append(time.perf_counter() - begin_s)
        begin_s = time.perf_counter()
        assert await do_chunk(chunk)
        record_s.append(time.perf_counter() - begin_s)


def share_of(times_s, share):
    return sorted(times_s)[int(len(times_s) * share)]


def show(name, times_s):
    p50, p99, slowest = (share_of(times_s, share) * 1000 for share in (0.5, 0.99, 0.99999))
    print(f"{name}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, slowest {slowest:.1f} ms")


async def test_every_frequent_statement_uses_an_index(million, cluster):
    for _ in range(40):
        await do_chunk(await chunks.claim("w", 30))
    held = [await chunks.claim("w", 30) for _ in range(10)]
    batch_id, now = held[0].batch_id, clock.now()
    await run_as_owner(cluster.postgres.url, "ANALYZE")
    plans = {
        "claim": await plan_of(chunks.CLAIM, now, now, "w"),
        "items": await plan_of(chunks.ITEMS, batch_id, 320, 352),
        "extend": await plan_of(
            chunks.EXTEND,
            batch_id,
            1,
            1,
            now,
        ),
        "late": await plan_of(chunks.BATCHES_WITH_ENDED_LEASES, now, 1000),
        "count": await plan_of(results.COUNT, batch_id, 1, 1, 0, now, now),
        "finish": await plan_of(batches.FINAL_STATE, batch_id),
        "results": await plan_of(results.LIST, batch_id, "t1", 500, 100),
        "failures": await plan_of(batches.FAILURES, [batch_id], "t1", 20),
        "list": await plan_of(batches.LIST, "t1", None, now, "b", 100),
        "take": await plan_of(outbox.TAKE, ["doorbell"], now, now, 100, None),
        "blobs": await plan_of(removal.UNREFERENCED, ["a", "b", "c"]),
        "first item": await plan_of(removal.FIRST_ITEM, batch_id, 0),
        "remove results": await plan_of(removal.REMOVE_RESULTS, batch_id, 0, 1000),
        "remove items": await plan_of(removal.REMOVE_ITEMS, batch_id, 0, 1000),
        "remove chunks": await plan_of(removal.REMOVE_CHUNKS, batch_id, 1000),
    }
    for name, plan in plans.items():
        scanned = [line for line in plan.splitlines() if "Seq Scan on batch_" in line]
        assert not scanned, f"{name}:\n{plan}"
    assert "batch_chunks_ready" in plans["claim"]
    assert "batch_chunks_leased" in plans["claim"]
    assert "batch_chunks_leased" in plans["late"]
    assert "batch_results_failed" in plans["failures"]
    assert "batch_items_object" in plans["blobs"]
