"""Workers and servers are killed while batches run."""

import asyncio
import random
import signal
import subprocess
import time

import psutil
import pytest

from tests.conftest import SLACK_S
from tests.support.cluster import READY_S, Cluster
from tests.support.ledger import Ledger, pictures
from tests.support.polling import elapsed, eventually

LEASE_S, SWEEP_S = 2.0, 0.5


async def submit_many(cluster: Cluster, ledger: Ledger, batches: int, items: int) -> None:
    for seed in range(batches):
        await cluster.submit(ledger, pictures(items, seed))


async def kill_often(
    cluster: Cluster, workers: subprocess.Popen[bytes], kills: int, pause_s: tuple[float, float]
) -> None:
    """Kills one worker process after the other, once all are ready."""
    # The supervisor gives up if a process dies during its first start.
    await eventually(lambda: "all processes are ready" in cluster.log("workers"), READY_S)
    done = 0
    while done < kills:
        await elapsed(random.uniform(*pause_s))
        assert workers.poll() is None, cluster.log("workers")
        if alive := psutil.Process(workers.pid).children():
            random.choice(alive).kill()
            done += 1


@pytest.mark.timeout(180)
async def test_killed_workers_lose_and_repeat_nothing(cluster, ledger):
    # Small chunks: after two crashes each image of a chunk takes seconds, in its own process.
    cluster.variables["CATEGORIZER_BATCH__CHUNK_ITEMS"] = "8"
    await cluster.start_server(CATEGORIZER_TEST__FAKE_MODEL="20,2")
    workers = cluster.start_workers(2)
    await asyncio.gather(
        submit_many(cluster, ledger, 8, 50), kill_often(cluster, workers, 3, (0.5, 1.0))
    )
    seconds = await cluster.drained(120)
    await ledger.check(cluster.postgres.url, cluster.images)
    print(f"{ledger.item_count} items, 3 kills, drained {seconds:.1f} s after")


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_r1_twenty_kills_and_ten_thousand_items(cluster, ledger):
    cluster.variables |= {
        "CATEGORIZER_WORKER__LEASE_S": "5",
        "CATEGORIZER_WORKER__SWEEP_INTERVAL_S": "2",
    }
    await cluster.start_server(CATEGORIZER_TEST__FAKE_MODEL="10,5")
    workers = cluster.start_workers(4)
    start_s = time.monotonic()
    await asyncio.gather(
        submit_many(cluster, ledger, 200, 50), kill_often(cluster, workers, 20, (1.0, 5.0))
    )
    killing_s = time.monotonic() - start_s
    seconds = await cluster.drained(120)
    assert ledger.item_count == 10_000
    await ledger.check(cluster.postgres.url, cluster.images)
    assert seconds <= 60
    crashes = await cluster.value(
        "SELECT sum(worker_crashes) FROM batch_chunks WHERE NOT is_isolated"
    )
    isolated = await cluster.value("SELECT count(*) FROM batch_chunks WHERE is_isolated")
    print(
        f"10,000 items, 20 kills in {killing_s:.0f} s, drained {seconds:.1f} s after the last;"
        f" {crashes} crashes while a chunk was leased, {isolated} isolated items"
    )


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_killed_server_costs_a_batch_no_item(cluster, ledger):
    server = await cluster.start_server(CATEGORIZER_TEST__FAKE_MODEL="20,2")
    cluster.start_workers(1)
    await submit_many(cluster, ledger, 6, 100)
    await elapsed(0.5)
    for _ in range(2):
        await cluster.end(server, signal.SIGKILL)
        server = await cluster.start_server(CATEGORIZER_TEST__FAKE_MODEL="20,2")
        await elapsed(0.3)
    await cluster.drained(120)
    await ledger.check(cluster.postgres.url, cluster.images)


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_planned_stops_count_as_no_crash_and_end_in_time(cluster, ledger):
    await cluster.start_server(CATEGORIZER_TEST__FAKE_MODEL="20,20")
    cluster.variables["CATEGORIZER_WORKER__GRACE_S"] = "0.2"
    await cluster.submit(ledger, pictures(300))
    for _ in range(4):
        worker = cluster.start_worker()
        await cluster.until("SELECT count(*) > 0 FROM batch_chunks WHERE state = 'LEASED'", 30)
        await elapsed(0.3)
        start_s = time.monotonic()
        assert await cluster.end(worker, signal.SIGTERM) == 0
        assert time.monotonic() - start_s < SLACK_S
    cluster.start_worker(CATEGORIZER_WORKER__GRACE_S="10")
    await cluster.drained(120)
    await ledger.check(cluster.postgres.url, cluster.images)
    assert await cluster.value("SELECT max(worker_crashes) FROM batch_chunks") == 0


async def stop_s(cluster: Cluster, worker: subprocess.Popen[bytes]) -> float:
    start_s = time.monotonic()
    assert await cluster.end(worker, signal.SIGTERM) == 0
    return time.monotonic() - start_s


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_r6_twelve_rolling_stops(cluster, ledger):
    await cluster.start_server(CATEGORIZER_TEST__FAKE_MODEL="0,250")
    await cluster.submit(ledger, pictures(300))
    worker = cluster.start_worker()
    stops = []
    async with asyncio.TaskGroup() as group:
        for _ in range(12):
            following = cluster.start_worker()
            await elapsed(5)
            stops.append(group.create_task(stop_s(cluster, worker)))
            worker = following
        pending = await cluster.value("SELECT item_count - succeeded_count FROM batches")
        assert pending > 0  # otherwise the last stops ended idle workers
    stops_s = [stop.result() for stop in stops]
    seconds = await cluster.drained(60)
    assert max(stops_s) <= 30
    await ledger.check(cluster.postgres.url, cluster.images)
    assert await cluster.value("SELECT max(worker_crashes) FROM batch_chunks") == 0
    print(
        f"12 stops, the longest {max(stops_s):.1f} s; {pending} of 300 items were pending after the"
        f" last, drained {seconds:.1f} s later"
    )


@pytest.mark.slow
async def test_a_worker_ends_when_one_of_its_tasks_dies(cluster, ledger):
    """The supervisor starts it again; a worker that works only in part would go unnoticed."""
    await cluster.start_server(CATEGORIZER_TEST__FAKE_MODEL="0,50")
    await cluster.submit(ledger, pictures(60))
    worker = cluster.start_worker(CATEGORIZER_WORKER__ALIVE_PATH="/nowhere/alive")
    assert await asyncio.to_thread(worker.wait, 30) == 1
    assert "the worker ends because of an error" in cluster.log("worker")
    assert "/nowhere/alive" in cluster.log("worker")
    cluster.start_worker()
    await cluster.drained(60)
    await ledger.check(cluster.postgres.url, cluster.images)
    assert await cluster.value("SELECT max(worker_crashes) FROM batch_chunks") == 0
