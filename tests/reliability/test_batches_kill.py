"""Workers, and the server, are killed while batches run."""

import asyncio
import random
import signal
import subprocess
import time

import psutil
import pytest

from tests.conftest import SLACK_S
from tests.support.house import READY_S, House
from tests.support.ledger import Ledger, pictures

LEASE_S, SWEEP_S = 2.0, 0.5


async def submit_many(house: House, ledger: Ledger, batches: int, items: int) -> None:
    for seed in range(batches):
        await house.submit(ledger, pictures(items, seed))


async def kill_often(
    house: House, workers: subprocess.Popen[bytes], kills: int, pause_s: tuple[float, float]
) -> None:
    """Kills one worker process after the other, from when all of them are ready."""
    deadline_s = time.monotonic() + READY_S
    while "all processes are ready" not in house.log("workers"):  # it ends where a start fails
        assert time.monotonic() < deadline_s, house.log("workers")
        await asyncio.sleep(0.05)
    done = 0
    while done < kills:
        await asyncio.sleep(random.uniform(*pause_s))
        assert workers.poll() is None, house.log("workers")
        if alive := psutil.Process(workers.pid).children():
            random.choice(alive).kill()
            done += 1


@pytest.mark.timeout(180)
async def test_killed_workers_lose_nothing_and_do_nothing_twice(house, ledger):
    # Of a chunk in the hands of two that died, each image gets a process of its own: seconds.
    house.variables["CATEGORIZER_BATCH__CHUNK_ITEMS"] = "8"
    await house.start_server(CATEGORIZER_TEST__FAKE_MODEL="20,2")
    workers = house.start_workers(2)
    await asyncio.gather(
        submit_many(house, ledger, 8, 50), kill_often(house, workers, 3, (0.5, 1.0))
    )
    seconds = await house.drained(120)
    await ledger.check(house.postgres.url, house.images)
    print(f"{ledger.item_count} items, 3 kills, drained {seconds:.1f} s after")


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_r1_twenty_kills_and_ten_thousand_items(house, ledger):
    house.variables |= {
        "CATEGORIZER_WORKER__LEASE_S": "5",
        "CATEGORIZER_WORKER__SWEEP_INTERVAL_S": "2",
    }
    await house.start_server(CATEGORIZER_TEST__FAKE_MODEL="10,5")
    workers = house.start_workers(4)
    start_s = time.monotonic()
    await asyncio.gather(
        submit_many(house, ledger, 200, 50), kill_often(house, workers, 20, (1.0, 5.0))
    )
    killing_s = time.monotonic() - start_s
    seconds = await house.drained(120)
    assert ledger.item_count == 10_000
    await ledger.check(house.postgres.url, house.images)
    assert seconds <= 60
    deaths = await house.value("SELECT sum(worker_crashes) FROM batch_chunks WHERE NOT is_isolated")
    alone = await house.value("SELECT count(*) FROM batch_chunks WHERE is_isolated")
    print(
        f"10,000 items, 20 kills in {killing_s:.0f} s, drained {seconds:.1f} s after the last;"
        f" {deaths} chunks were in hand of the dead, {alone} items were run alone"
    )


@pytest.mark.timeout(180)
async def test_a_killed_server_costs_a_batch_nothing(house, ledger):
    server = await house.start_server(CATEGORIZER_TEST__FAKE_MODEL="20,2")
    house.start_workers(1)
    await submit_many(house, ledger, 6, 100)
    await asyncio.sleep(0.5)
    for _ in range(2):
        await house.end(server, signal.SIGKILL)
        server = await house.start_server(CATEGORIZER_TEST__FAKE_MODEL="20,2")
        await asyncio.sleep(0.3)
    await house.drained(120)
    await ledger.check(house.postgres.url, house.images)


@pytest.mark.timeout(180)
async def test_planned_stops_cost_no_attempt_and_end_in_time(house, ledger):
    await house.start_server(CATEGORIZER_TEST__FAKE_MODEL="20,20")
    house.variables["CATEGORIZER_WORKER__GRACE_S"] = "0.2"
    await house.submit(ledger, pictures(300))
    for _ in range(4):
        worker = house.start_worker()
        await house.until("SELECT count(*) > 0 FROM batch_chunks WHERE state = 'LEASED'", 30)
        await asyncio.sleep(0.3)
        start_s = time.monotonic()
        assert await house.end(worker, signal.SIGTERM) == 0
        assert time.monotonic() - start_s < SLACK_S
    house.start_worker(CATEGORIZER_WORKER__GRACE_S="10")
    await house.drained(120)
    await ledger.check(house.postgres.url, house.images)
    assert await house.value("SELECT max(worker_crashes) FROM batch_chunks") == 0


async def stop_s(house: House, worker: subprocess.Popen[bytes]) -> float:
    start_s = time.monotonic()
    assert await house.end(worker, signal.SIGTERM) == 0
    return time.monotonic() - start_s


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_r6_twelve_rolling_stops(house, ledger):
    await house.start_server(CATEGORIZER_TEST__FAKE_MODEL="0,250")
    await house.submit(ledger, pictures(300))
    worker = house.start_worker()
    stops = []
    for _ in range(12):
        following = house.start_worker()
        await asyncio.sleep(5)
        stops.append(asyncio.create_task(stop_s(house, worker)))
        worker = following
    undone = await house.value("SELECT item_count - succeeded_count FROM batches")
    assert undone > 0  # or the last stops came to idle workers
    stops_s = await asyncio.gather(*stops)
    seconds = await house.drained(60)
    assert max(stops_s) <= 30
    await ledger.check(house.postgres.url, house.images)
    assert await house.value("SELECT max(worker_crashes) FROM batch_chunks") == 0
    print(
        f"12 stops, the longest {max(stops_s):.1f} s; {undone} of 300 items were left after the"
        f" last, drained {seconds:.1f} s later"
    )
