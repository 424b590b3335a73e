"""A batch does not wait for the lease of a claim whose answer was lost."""

import signal

from tests.support.cluster import Cluster
from tests.support.fault_proxy import FaultProxy
from tests.support.ledger import Ledger, pictures

LEASE_S = 30.0
SOCKET = ".s.PGSQL.5432"


async def test_a_claim_whose_answer_is_lost_costs_seconds_instead_of_a_lease(
    cluster: Cluster, ledger: Ledger
):
    """PostgreSQL commits the claim, but its answer is lost: the worker knows of no chunk."""
    cluster.variables["CATEGORIZER_WORKER__LEASE_S"] = str(LEASE_S)
    await cluster.start_server()
    folder = cluster.sockets / "proxy"
    folder.mkdir(exist_ok=True)
    claim = b"LEASED"  # what a claim returns
    proxy = FaultProxy(f"unix:{cluster.sockets}/postgres/{SOCKET}", lost=claim)
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
