"""The audit: what is written down, with what it tells of or not at all, and never changed."""

import json

import asyncpg
import pytest
from image_categorizer import BatchRunning
from image_categorizer_server.db import chunk as chunks
from image_categorizer_server.db import result as results
from image_categorizer_server.db import webhook as webhooks
from image_categorizer_server.db.database import connected
from image_categorizer_server.domain.access import Role
from image_categorizer_server.domain.audit import Actor, current_actor
from image_categorizer_server.domain.batch import BatchConfig, ItemError, ItemOutcome
from image_categorizer_server.domain.webhook import WebhookState
from image_categorizer_server.egress.fetcher import open_fetcher
from image_categorizer_server.errors import BatchNotFound, ItemKilledServers
from image_categorizer_server.services.batch import Batches
from image_categorizer_server.services.webhook import Webhooks
from image_categorizer_server.settings.batch import BatchSettings
from image_categorizer_server.settings.fetch import FetchSettings
from image_categorizer_server.settings.webhook import WebhookSettings
from image_categorizer_server.stores.object_store import MemoryStorage

from tests.integration.conftest import running_server
from tests.support.batch_tools import do_all, do_chunk, failed_outcome, files, right_outcome
from tests.support.database import run_as_owner
from tests.support.pictures import jpeg


@pytest.fixture
def batches(database):
    return Batches(MemoryStorage(), BatchSettings(chunk_items=2), 1000)


@pytest.fixture
async def registered(database):
    """Webhooks that may be on this machine."""
    fetch = FetchSettings(
        allow_http=True, allowed_ports=(9001, 9002), allowed_networks=("127.0.0.0/8",)
    )
    async with open_fetcher(fetch, unused) as fetcher:
        yield Webhooks(WebhookSettings(), fetcher)


async def unused(uri, max_bytes):
    raise AssertionError


@pytest.fixture
def acting():
    token = current_actor.set(Actor("k-1", "r-1"))
    yield
    current_actor.reset(token)


async def events(resource=None, tenant="t1"):
    """Returns the events of a tenant as (action, resource, detail)."""
    async with connected() as connection:
        rows = await connection.fetch(
            "SELECT * FROM audit_events WHERE tenant_id = $1"
            " AND ($2::text IS NULL OR resource = $2) ORDER BY seq",
            tenant,
            resource,
        )
    return [(row["action"], row["resource"], json.loads(row["detail"])) for row in rows]


async def actions(resource=None, tenant="t1"):
    return [action for action, _, _ in await events(resource, tenant)]


async def test_a_batch_s_life_is_written_down(batches, acting):
    batch = await batches.create("t1", "k-1", BatchConfig(priority=3), files([b"a", b"b", b"c"]))
    await do_chunk(await chunks.claim("w", 30))
    for _ in range(2):
        await batches.cancel("t1", batch.batch_id)
    await batches.retry("t1", batch.batch_id)
    await do_all()
    await batches.retry("t1", batch.batch_id)  # there is nothing to be done again
    await batches.delete("t1", batch.batch_id)
    found = await events(batch.batch_id)
    assert [action for action, _, _ in found] == [
        "batch.create",
        "batch.cancel",
        "batch.cancelled",
        "batch.retry",
        "batch.completed",
        "batch.delete",
    ]
    assert found[0][2] == {"item_count": 3, "priority": 3, "webhook_host": ""}
    assert found[2][2] == {"run": 1, "item_count": 3, "succeeded_count": 2, "failed_count": 0}
    assert found[3][2] == {"item_count": 1}
    assert found[4][2] == {"run": 2, "item_count": 3, "succeeded_count": 3, "failed_count": 0}
    async with connected() as connection:
        rows = await connection.fetch("SELECT DISTINCT actor_id, request_id FROM audit_events")
    assert [tuple(row) for row in rows] == [("k-1", "r-1")]


async def test_a_rolled_back_acceptance_leaves_none(batches, empty_database):
    """The database refuses the last thing of the transaction, the message to the tenant."""
    refuse = "ALTER TABLE outbox ADD CONSTRAINT refused CHECK (kind <> 'doorbell') NOT VALID"
    await run_as_owner(empty_database, refuse)
    try:
        with pytest.raises(asyncpg.CheckViolationError):
            await batches.create("t1", "k-1", BatchConfig(), files([b"a"]))
    finally:
        await run_as_owner(empty_database, "ALTER TABLE outbox DROP CONSTRAINT refused")
    assert await events() == []
    async with connected() as connection:
        assert await connection.fetchval("SELECT count(*) FROM batches") == 0


async def test_what_repeats_a_batch_is_no_second_one(batches):
    config = BatchConfig(request_id="same")
    for _ in range(2):
        await batches.create("t1", "k-1", config, files([b"a"]))
    assert await actions() == ["batch.create"]


async def test_what_is_refused_changed_nothing(batches):
    with pytest.raises(BatchNotFound):
        await batches.cancel("t1", "b-none")
    with pytest.raises(BatchNotFound):
        await batches.delete("t1", "b-none")
    await batches.create("t1", "k-1", BatchConfig(), files([b""]))
    # An empty file is an item that failed at once, and so the batch has ended.
    assert await actions() == ["batch.create", "batch.completed"]


async def test_items_that_processes_die_of_are_written_down(batches):
    batch = await batches.create("t1", "k-1", BatchConfig(), files([b"a"]))
    other = await batches.create("t1", "k-1", BatchConfig(), files([b"b", b"c"]))
    for _ in range(3):
        await chunks.record_crash(await chunks.claim("w", 30))
    expected = {"number": 0, "reason": "ITEM_KILLED_WORKERS"}
    found = await events(batch.batch_id)
    assert found[1] == ("batch.item_crashed", batch.batch_id, expected)
    assert [action for action, _, _ in found[2:]] == ["batch.completed"]
    chunk = await chunks.claim("w", 30)
    outcomes = [
        right_outcome(chunk.items[0]),
        ItemOutcome(1, error=ItemError(ItemKilledServers.status, ItemKilledServers.reason, "")),
    ]
    assert await results.record(chunk, outcomes)
    found = await events(other.batch_id)
    expected = {"number": 1, "reason": "ITEM_KILLED_SERVERS"}
    assert found[1] == ("batch.item_crashed", other.batch_id, expected)
    assert [action for action, _, _ in found[2:]] == ["batch.completed"]


async def test_a_retry_records_how_many_items_it_repeats(batches):
    batch = await batches.create("t1", "k-1", BatchConfig(), files([b"a", b"b"]))
    chunk = await chunks.claim("w", 30)
    await results.record(chunk, [failed_outcome(item) for item in chunk.items])
    await batches.retry("t1", batch.batch_id)
    assert (await events())[-1] == ("batch.retry", batch.batch_id, {"item_count": 2})


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit_events SET action = 'x'", "DELETE FROM audit_events", "TRUNCATE audit_events"],
)
async def test_nothing_is_changed_or_removed(batches, empty_database, statement):
    """Not even by the owner; the role of the programs has no right to try."""
    await batches.create("t1", "k-1", BatchConfig(), files([b"a"]))
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
        await run_as_owner(empty_database, statement)
    async with connected() as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
            await connection.execute(statement)
    assert await actions() == ["batch.create"]


async def test_webhooks_are_written_down_once_for_each_change(registered):
    made, _ = await registered.create("t1", "http://127.0.0.1:9001/secret-path")
    moved = await registered.update(
        "t1", made.webhook_id, "http://127.0.0.1:9002/x", is_enabled=True
    )
    await registered.update("t1", made.webhook_id, None, None)
    await registered.rotate_secret("t1", made.webhook_id)
    for _ in range(3):
        await webhooks.disable_gone("t1", made.webhook_id, moved.url, made.create_time)
    assert (await registered.get("t1", made.webhook_id)).state is WebhookState.GONE
    await registered.delete("t1", made.webhook_id)
    assert await events() == [
        ("webhook.create", made.webhook_id, {"host": "127.0.0.1:9001"}),
        ("webhook.update", made.webhook_id, {"state": "ENABLED", "host": "127.0.0.1:9002"}),
        ("webhook.rotate_secret", made.webhook_id, {}),
        ("webhook.gone", made.webhook_id, {"state": "GONE"}),
        ("webhook.delete", made.webhook_id, {}),
    ]


async def test_key_and_request_of_the_caller_are_in_it(settings):
    async with running_server(settings) as server, await server.client(Role.OPERATOR) as client:
        batch = await client.batches.submit([("a.jpg", jpeg())])
        with pytest.raises(BatchRunning):
            await client.batches.delete(batch.batch_id)
        await client.batches.cancel(batch.batch_id)
        caller = await client.caller()
        async with connected() as connection:
            rows = await connection.fetch(
                "SELECT * FROM audit_events WHERE resource = $1 ORDER BY seq", batch.batch_id
            )
    assert [row["action"] for row in rows] == ["batch.create", "batch.cancel", "batch.cancelled"]
    assert {row["actor_id"] for row in rows} == {caller.actor_id}
    assert all(len(row["request_id"]) == 32 for row in rows)
    assert rows[0]["request_id"] != rows[1]["request_id"]
