"""A batch does not wait until the lease of a lost claim ends."""

import signal

from tests.support.cluster import Cluster
from tests.support.fault_proxy import FaultProxy
from tests.support.ledger import Ledger, pictures

LEASE_S = 30.0
SOCKET = ".s.PGSQL.5432"


async def test_a_lost_answer_to_a_claim_costs_seconds_and_not_a_lease(
    cluster: Cluster, ledger: Ledger
):
    """PostgreSQL leases a chunk, but its answer is lost: the worker never learns of it."""
    cluster.variables["CATEGORIZER_WORKER__LEASE_S"] = str(LEASE_S)
    await cluster.start_server()
    folder = cluster.sockets / "proxy"
    folder.mkdir(exist_ok=True)
    proxy = FaultProxy(
        f"unix:{cluster.sockets}/postgres/{SOCKET}", lost=b"LEASED"
    )  # a claim's answer
    async with proxy.running(folder / SOCKET):
        url = cluster.postgres.url.partition("?")[0] + f"?host={folder}"
        worker = cluster.start_worker(DATABASE_URL=url)
        await cluster.submit(ledger, pictures(20))
        await cluster.drained(15)
        assert proxy.cuts == 1
        await ledger.check(cluster.postgres.url, cluster.images)
        assert await cluster.value("SELECT max(worker_crashes) FROM batch_chunks") == 0
        assert "the answer to their claim was lost" in cluster.log("worker")
        assert await cluster.end(worker, signal.SIGTERM) == 0
