"""A batch does not wait for the end of a lease that nobody knows of."""

import signal

from tests.support.fault_proxy import FaultProxy
from tests.support.house import House
from tests.support.ledger import Ledger, pictures

LEASE_S = 30.0
SOCKET = ".s.PGSQL.5432"


async def test_a_claim_whose_answer_gets_lost_costs_seconds_and_not_a_lease(
    house: House, ledger: Ledger
):
    """PostgreSQL does what it is asked, and its answer is lost: the worker knows no chunk."""
    house.variables["CATEGORIZER_WORKER__LEASE_S"] = str(LEASE_S)
    await house.start_server()
    folder = house.sockets / "proxy"
    folder.mkdir(exist_ok=True)
    proxy = FaultProxy(f"unix:{house.sockets}/postgres/{SOCKET}")
    async with proxy.running(folder / SOCKET):
        url = house.postgres.url.partition("?")[0] + f"?host={folder}"
        proxy.lost = b"LEASED"  # what a claim returns
        worker = house.start_worker(DATABASE_URL=url)
        await house.submit(ledger, pictures(20))
        await house.drained(15)
        assert proxy.cuts == 1
        await ledger.check(house.postgres.url, house.images)
        assert await house.value("SELECT max(worker_crashes) FROM batch_chunks") == 0
        assert "the answer to their claim was lost" in house.log("worker")
        assert await house.end(worker, signal.SIGTERM) == 0
