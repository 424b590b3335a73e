"""A tenant with ten thousand images, one with ten, and callers that wait for answers."""

import asyncio
import os
import statistics

import pytest

from tests.support.cluster import Cluster
from tests.support.ledger import Ledger, pictures
from tests.support.polling import elapsed
from tests.support.traffic import OK, closed_loop, connected, open_loop, percentile_ms

WINDOW_S = 30.0
TIMES = "2,8"
TIME_FACTOR = float(os.environ.get("RELIABILITY_TIME_FACTOR", "1"))
CHUNK_S = 2.0
"""How long a worker may take to finish one of its chunks."""


async def small_job(cluster: Cluster, ledger: Ledger, seed: int) -> tuple[float, float]:
    """Submits ten images. Returns the seconds until the batch started, and until it ended."""
    batch = await cluster.submit(ledger, pictures(10, seed))
    where = f"FROM batches WHERE batch_id = '{batch.batch_id}'"
    await cluster.until(f"SELECT end_time IS NOT NULL {where}", 60)
    row = await cluster.row(
        "SELECT extract(epoch FROM start_time - create_time)::float8 AS start_s,"
        f" extract(epoch FROM end_time - create_time)::float8 AS end_s {where}"
    )
    return row["start_s"], row["end_s"]


async def submit_large(cluster: Cluster, ledger: Ledger, items: int, seed: int) -> None:
    for number in range(items // 500):
        await cluster.submit(ledger, pictures(500, seed + number))


async def shares(cluster: Cluster, tenants: list[str], window_s: float) -> list[float]:
    """Returns the share of each tenant in the outcomes of some seconds."""
    counts = []
    for wait_s in (0.0, window_s):
        await elapsed(wait_s)
        row = await cluster.row(
            "SELECT "
            + ", ".join(f"count(*) FILTER (WHERE tenant_id = '{t}') AS {t}" for t in tenants)
            + " FROM batch_results"
        )
        counts.append([row[tenant] for tenant in tenants])
    done = [after - before for before, after in zip(*counts, strict=True)]
    return [count / sum(done) for count in done]


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_r9_a_large_tenant_delays_neither_small_ones_nor_callers(cluster, ledger):
    await cluster.start_server(CATEGORIZER_TEST__FAKE_MODEL=TIMES)
    cluster.start_workers(2)
    large, other = await cluster.as_tenant("large"), await cluster.as_tenant("other")
    async with connected(cluster.address, cluster.api_key) as caller:
        await closed_loop(caller.ask, 16, 2)
        capacity = len(await closed_loop(caller.ask, 16, 6)) / 6
        unloaded_ms = percentile_ms(await open_loop(caller.ask, 0.7 * capacity, 10))
        single_s = statistics.median([(await small_job(cluster, ledger, n))[1] for n in range(3)])
        await submit_large(large, ledger, 10_000, 1000)
        live = asyncio.create_task(open_loop(caller.ask, 0.5 * capacity, WINDOW_S))
        await elapsed(3)
        jobs = [await small_job(cluster, ledger, 10 + n) for n in range(5)]
        await submit_large(other, ledger, 3_000, 2000)
        await elapsed(1)
        share = await shares(cluster, ["large", "other"], 10)
        answers = await live
        live_ms = percentile_ms(answers)
    drained_s = await cluster.drained(400)
    print(
        f"C {capacity:.0f}/s, L0 {unloaded_ms:.0f} ms; live p99 beside batches {live_ms:.0f} ms of"
        f" {len(answers)} calls; a small job by itself {single_s:.2f} s, beside 10,000 items begun"
        f" after at most {max(s for s, _ in jobs):.2f} s, ended after"
        f" {max(e for _, e in jobs):.2f} s; shares {share[0]:.2f} and {share[1]:.2f};"
        f" drained {drained_s:.0f} s after"
    )
    await ledger.check(cluster.postgres.url, cluster.images)
    assert {answer.code for answer in answers} == {OK}
    assert live_ms <= 1.5 * unloaded_ms * TIME_FACTOR
    assert max(start for start, _ in jobs) <= 5
    # Three times the time by itself would be less than the chunks under way may take.
    assert max(end for _, end in jobs) <= 3 * single_s + CHUNK_S * TIME_FACTOR
    assert min(share) >= 0.25
