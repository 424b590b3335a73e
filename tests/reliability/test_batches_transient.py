"""A tenth of all calls fails, and would succeed the next time."""

import random
from contextlib import AsyncExitStack

import grpc
import pytest
from image_categorizer_server.settings import Settings

from tests.support.cluster import Cluster
from tests.support.fault_proxy import FaultProxy
from tests.support.ledger import Ledger, Picture, pictures
from tests.support.object_servers import BUCKET, empty_s3_bucket, running_s3
from tests.support.polling import elapsed

SHARE = 0.1
SOCKET = ".s.PGSQL.5432"
# PostgreSQL's errors for conflicting transactions.
CONFLICTS = f"""
CREATE FUNCTION fail_sometimes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF random() < {SHARE} THEN
        RAISE EXCEPTION 'could not serialize access' USING ERRCODE =
            CASE WHEN random() < 0.5 THEN 'serialization_failure' ELSE 'deadlock_detected' END;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER faulty AFTER INSERT ON batch_results
    FOR EACH STATEMENT EXECUTE FUNCTION fail_sometimes();
CREATE TRIGGER faulty AFTER UPDATE ON batch_chunks
    FOR EACH STATEMENT EXECUTE FUNCTION fail_sometimes();
CREATE TRIGGER faulty AFTER INSERT ON batch_items
    FOR EACH STATEMENT EXECUTE FUNCTION fail_sometimes();
CREATE TRIGGER faulty AFTER UPDATE ON outbox
    FOR EACH STATEMENT EXECUTE FUNCTION fail_sometimes();
"""
NO_CONFLICTS = "DROP FUNCTION fail_sometimes CASCADE"


def mixed(count: int, seed: int) -> list[Picture]:
    """Returns pictures, and a text in place of every fiftieth."""
    made = pictures(count, seed)
    for number in range(0, count, 50):
        made[number] = Picture(f"{seed}-{number}.txt", f"no image {seed} {number}".encode(), "")
    return made


async def submit_until_accepted(
    cluster: Cluster, ledger: Ledger, given: list[Picture], name: str
) -> int:
    """Returns how often the batch was refused."""
    for refusals in range(100):
        try:
            await cluster.submit(ledger, given, request_id=name)
            return refusals
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            await elapsed(random.uniform(0.1, 0.5))
    raise AssertionError("refused a hundred times")


async def listen(cluster: Cluster, stack: AsyncExitStack, proxy: FaultProxy, name: str) -> str:
    """Starts the proxy of PostgreSQL, and returns its URL."""
    folder = cluster.sockets / name
    folder.mkdir(exist_ok=True)
    await stack.enter_async_context(proxy.running(folder / SOCKET))
    return cluster.postgres.url.partition("?")[0] + f"?host={folder}"


async def run_with_faults(
    cluster: Cluster, ledger: Ledger, batches: int, stack: AsyncExitStack
) -> str:
    """Runs batches while all dependencies fail at times. Returns a summary."""
    upstream = f"unix:{cluster.sockets}/postgres/{SOCKET}"
    # A call takes five to ten chunks of bytes, and accepting a batch takes several calls.
    database = FaultProxy(upstream, cut_share=SHARE / 5)
    of_server = FaultProxy(upstream, cut_share=SHARE / 20)
    store_url = await stack.enter_async_context(running_s3())
    await empty_s3_bucket(store_url)
    store = FaultProxy(store_url.removeprefix("http://"), cut_share=SHARE)
    url = await listen(cluster, stack, database, "proxy")
    server_url = await listen(cluster, stack, of_server, "server-proxy")
    store_address = await stack.enter_async_context(store.running())
    cluster.variables |= {
        "CLOUD_PROVIDER": "aws",
        "STORAGE_BUCKET": BUCKET,
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_REGION": "us-east-1",
        "CATEGORIZER_STORAGE__ENDPOINT": f"http://{store_address}",
        "CATEGORIZER_STORAGE__ALLOW_HTTP": "true",
        "CATEGORIZER_WORKER__LEASE_S": "10",
    }
    await cluster.start_server(CATEGORIZER_TEST__FAKE_MODEL="5,1", DATABASE_URL=server_url)
    cluster.start_workers(2, DATABASE_URL=url)
    refusals = 0
    for seed in range(batches):
        refusals += await submit_until_accepted(cluster, ledger, mixed(100, seed), f"r{seed}")
    await cluster.until("SELECT count(*) = 0 FROM batches WHERE end_time IS NULL", 150)
    settings = Settings(
        CLOUD_PROVIDER="aws",
        STORAGE_BUCKET=BUCKET,
        storage={"endpoint": store_url, "allow_http": True},
    )
    await ledger.check(cluster.postgres.url, settings, failures=2 * batches)
    assert "ended with status" not in cluster.log("workers")
    return (
        f"{ledger.item_count} items, {2 * batches} of them texts;"
        f" {database.cuts + of_server.cuts} cuts of the database, {store.cuts} of the store;"
        f" {refusals} submissions refused and repeated"
    )


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_r11_temporary_faults_cost_no_item(cluster: Cluster, ledger: Ledger, monkeypatch):
    for name, value in {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    await cluster.execute(CONFLICTS)
    try:
        async with AsyncExitStack() as stack:
            print(await run_with_faults(cluster, ledger, 20, stack))
            cluster.end_all()
    finally:
        await cluster.execute(NO_CONFLICTS)
    query = "SELECT array_agg(DISTINCT reason) FROM batch_results WHERE status <> 'OK'"
    reasons = await cluster.value(query)
    assert reasons == ["IMAGE_UNDECODABLE"]
    crashes = await cluster.value("SELECT max(worker_crashes) FROM batch_chunks")
    assert crashes <= 1
