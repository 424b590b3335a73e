"""One image crashes every worker that reads it."""

import pytest

from tests.support.cluster import Cluster
from tests.support.ledger import Picture, pictures

POISON = "poison.png"


def poisoned(count: int, seed: int) -> list[Picture]:
    made = pictures(count, seed)
    made[count // 2] = Picture(POISON, made[count // 2].content, made[count // 2].category)
    return made


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "chunk_items", [4, pytest.param(32, marks=pytest.mark.slow)], ids=["few", "usual"]
)
async def test_an_image_that_crashes_workers_fails_and_no_other(
    cluster: Cluster, ledger, chunk_items
):
    cluster.variables["CATEGORIZER_BATCH__CHUNK_ITEMS"] = str(chunk_items)
    await cluster.start_server()
    cluster.variables["CATEGORIZER_WORKER__LEASE_S"] = "2"
    cluster.variables["CATEGORIZER_TEST__FAILPOINT"] = f"image.read@{POISON}:1"
    poison = await cluster.submit(ledger, poisoned(50, 1))
    for seed in range(2, 5):
        await cluster.submit(ledger, pictures(50, seed))
    cluster.start_workers(2)
    await cluster.drained(120)
    await ledger.check(cluster.postgres.url, cluster.images, failures=1)
    row = await cluster.row("SELECT * FROM batch_results WHERE status <> 'OK'")
    assert (row["batch_id"], row["number"]) == (poison.batch_id, 25)
    assert row["reason"] == "ITEM_KILLED_WORKERS"
    assert await cluster.value("SELECT max(worker_crashes) FROM batch_chunks") == 3
