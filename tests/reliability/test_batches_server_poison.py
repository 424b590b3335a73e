"""Images that crash the server, and crashes that no image causes."""

import hashlib
import json
import signal

import pytest

from tests.support.cluster import Cluster
from tests.support.ledger import Ledger, Picture, pictures
from tests.support.polling import elapsed

SERVER_CRASHES = (
    "SELECT coalesce(sum(v::int), 0) FROM batch_chunks, jsonb_each_text(server_crashes) AS b (k, v)"
)


def crash_on(*guilty: Picture) -> dict[str, str]:
    """Returns a setting that makes a server crash on these pictures."""
    names = [hashlib.sha256(picture.content).hexdigest() for picture in guilty]
    return {"CATEGORIZER_TEST__FAILPOINT": ",".join(f"image.decoding@{name}:1" for name in names)}


async def failures(cluster: Cluster) -> list[tuple[int, str, str]]:
    """Returns number, reason and message of the failed items."""
    rows = await cluster.value(
        "SELECT json_agg(json_build_array(number, reason, message) ORDER BY number)"
        " FROM batch_results WHERE status <> 'OK'"
    )
    return [tuple(row) for row in json.loads(rows)]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("workers", "count"),
    [(1, 40), pytest.param(3, 600, marks=pytest.mark.slow)],
    ids=["one worker", "three workers"],
)
async def test_an_image_that_crashes_the_server_fails_and_no_other(
    cluster: Cluster, ledger: Ledger, workers, count
):
    given = pictures(count, 1)
    async with cluster.restarting_server(**crash_on(given[20])) as crashes_s:
        await cluster.submit(ledger, given)
        await cluster.submit(ledger, pictures(20, 2))
        cluster.start_workers(workers)
        seconds = await cluster.drained(90)
        assert len(crashes_s) == 4
        await ledger.check(cluster.postgres.url, cluster.images, failures=1)
    assert await failures(cluster) == [
        (20, "ITEM_KILLED_SERVERS", "the server crashed 4 times while it had the image")
    ]
    print(f"{count + 20} items, 4 crashes of the server, drained after {seconds:.1f} s")


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_three_images_that_crash_the_server_fail_and_no_other(cluster, ledger):
    given = pictures(300, 3)
    guilty = 5, 6, 250
    async with cluster.restarting_server(**crash_on(*(given[n] for n in guilty))) as crashes_s:
        await cluster.submit(ledger, given)
        cluster.start_workers(2)
        await cluster.drained(200)
        assert 4 <= len(crashes_s) <= 12
        await ledger.check(cluster.postgres.url, cluster.images, failures=3)
    assert [number for number, *_ in await failures(cluster)] == list(guilty)


@pytest.mark.slow
async def test_planned_restarts_of_the_server_count_as_no_crash(cluster, ledger):
    server = await cluster.start_server(CATEGORIZER_TEST__FAKE_MODEL="20,10")
    await cluster.submit(ledger, pictures(300))
    cluster.start_workers(1)
    for _ in range(3):
        await cluster.until("SELECT count(*) > 0 FROM batch_chunks WHERE state = 'LEASED'", 20)
        await elapsed(0.5)
        assert await cluster.end(server, signal.SIGTERM) == 0
        server = await cluster.start_server(CATEGORIZER_TEST__FAKE_MODEL="20,10")
    await cluster.drained(40)
    await ledger.check(cluster.postgres.url, cluster.images)
    assert await cluster.value(SERVER_CRASHES) == 0


@pytest.mark.slow
async def test_a_server_that_is_down_counts_as_no_crash(cluster, ledger):
    server = await cluster.start_server()
    cluster.variables["CATEGORIZER_WORKER__PATIENCE_S"] = "1"
    await cluster.submit(ledger, pictures(60))
    await cluster.end(server, signal.SIGKILL)
    cluster.start_workers(2)
    await cluster.until("SELECT count(*) > 0 FROM batch_chunks WHERE state = 'LEASED'", 20)
    await elapsed(3)
    await cluster.start_server()
    await cluster.drained(40)
    await ledger.check(cluster.postgres.url, cluster.images)
    assert await cluster.value(SERVER_CRASHES) == 0


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_server_that_is_killed_thirty_times_fails_no_image(cluster, ledger):
    """Thirty crashes that no image causes, while images are isolated all the time."""
    times = {"CATEGORIZER_TEST__FAKE_MODEL": "20,5"}
    server = await cluster.start_server(**times)
    for seed in range(30):
        await cluster.submit(ledger, pictures(100, seed))
    cluster.start_workers(2)
    for _ in range(30):
        await elapsed(1.0)
        await cluster.end(server, signal.SIGKILL)
        server = await cluster.start_server(**times)
    crashes = await cluster.value(SERVER_CRASHES)
    seconds = await cluster.drained(120)
    await ledger.check(cluster.postgres.url, cluster.images)
    assert crashes > 0
    print(f"3,000 items, 30 kills, {crashes} crashes counted, drained {seconds:.1f} s after")
