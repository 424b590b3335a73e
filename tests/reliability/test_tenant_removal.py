"""Workers die while they remove a deleted tenant: the next one continues, and nothing is left."""

import pytest

from tests.reliability.test_batches_failpoints import FAILPOINT, crashed
from tests.support.ledger import Ledger, pictures

TABLES = ("api_keys", "batches", "batch_items", "batch_chunks", "batch_results", "outbox")
WITHIN_S = 60


@pytest.mark.slow
@pytest.mark.parametrize("point", ["tenant.removing", "tenant.emptied"])
async def test_a_worker_dies_while_it_removes_a_tenant(cluster, ledger, point):
    cluster.variables["CATEGORIZER_TENANTS__REMOVAL_DELAY_S"] = "1"
    await cluster.start_server()
    other = await cluster.as_tenant("acme")
    await other.submit(Ledger(), pictures(20, seed=1))
    await cluster.submit(ledger, pictures(20, seed=2))
    assert any((cluster.images / "acme").rglob("*"))
    assert cluster.run("tenants", "delete", "acme", "--yes").returncode == 0
    await crashed(cluster, cluster.start_worker(**{FAILPOINT: f"{point}:1"}), WITHIN_S)
    assert await cluster.value("SELECT state FROM tenants WHERE tenant_id = 'acme'") == "DELETING"
    cluster.start_worker()
    gone = "SELECT NOT EXISTS (SELECT FROM tenants WHERE tenant_id = 'acme')"
    await cluster.until(gone, WITHIN_S)
    await cluster.drained(WITHIN_S)
    for table in TABLES:
        assert await cluster.value(f"SELECT count(*) FROM {table} WHERE tenant_id = 'acme'") == 0
    assert not [path for path in (cluster.images / "acme").rglob("*") if path.is_file()]
    await ledger.check(cluster.postgres.url, cluster.images)
