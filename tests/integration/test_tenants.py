"""Tenants: created, suspended, resumed, deleted, and removed without a trace."""

import asyncio

import pytest
from image_categorizer import (
    AsyncImageCategorizationClient,
    CredentialsInvalid,
    InvalidRequest,
    QuotaExceeded,
    RoleInsufficient,
    TenantExists,
    TenantNotFound,
    TenantSuspended,
)
from image_categorizer_server import clock
from image_categorizer_server.db import chunk as chunks
from image_categorizer_server.db import result as results
from image_categorizer_server.domain.access import Role
from image_categorizer_server.domain.batch import BatchConfig
from image_categorizer_server.errors import KeyNotFound
from image_categorizer_server.errors import TenantNotFound as NoSuchTenant
from image_categorizer_server.services import key as keys
from image_categorizer_server.services import tenant as tenants
from image_categorizer_server.services.tenant_removal import TenantRemoval
from image_categorizer_server.settings.access import SecuritySettings
from image_categorizer_server.stores.redis import RedisCache, open_redis
from redis.asyncio import Redis

from tests.integration.conftest import running_server
from tests.support.batch_tools import do_all, keys_of, make_batch, numbered
from tests.support.database import connect_as_owner, ensure_tenants
from tests.support.keys import keys_of as api_keys_of
from tests.support.pictures import jpeg
from tests.support.polling import eventually
from tests.support.storage_contract import store_image
from tests.support.tenant_rows import contents

PICTURE = jpeg(64, 48)
KEPT = {"audit_events", "audit_heads", "audit_statements"}
WITHIN_S = 5.0


@pytest.fixture
async def platform(server):
    async with await server.client(Role.PLATFORM) as client:
        yield client


@pytest.fixture
async def cache(settings, stores):
    async with (
        Redis.from_url(stores.redis.url) as connection,
        open_redis(settings.redis_url, settings.redis) as redis,
    ):
        await connection.flushall()
        yield RedisCache(redis, timeout_s=2)


@pytest.fixture
def removal(storage, cache):
    """Removes tenants in pieces of one row."""
    return TenantRemoval(storage, cache, delay_s=60, rows_at_once=1)


async def test_a_tenant_is_created_read_and_listed(platform):
    created = await platform.tenants.create("acme", display_name="Acme Corporation")
    assert (created.tenant_id, created.display_name) == ("acme", "Acme Corporation")
    assert (created.state, created.delete_time) == ("ACTIVE", None)
    assert await platform.tenants.get("acme") == created
    assert [t.tenant_id async for t in platform.tenants.list()] == ["acme", "default"]
    with pytest.raises(TenantExists):
        await platform.tenants.create("acme")
    with pytest.raises(TenantNotFound):
        await platform.tenants.get("nobody")


@pytest.mark.parametrize(
    "tenant_id", ["", "Acme", "-a", "_a", "a/b", "*", "a" * 65, "a b", "ü", "a\n", "..", "a\0"]
)
async def test_a_name_that_is_no_slug_is_refused(platform, tenant_id):
    with pytest.raises(InvalidRequest) as caught:
        await platform.tenants.create(tenant_id)
    assert [field for field, _ in caught.value.violations] == ["tenant_id"]


async def test_tenants_are_paged_by_name(database):
    await ensure_tenants(*(f"t{number}" for number in range(5)))
    names, token = [], ""
    while True:
        page = await tenants.list_tenants(2, token)
        names += [tenant.tenant_id for tenant in page.items]
        if not (token := page.next_page_token):
            break
    assert names == ["default", "t0", "t1", "t2", "t3", "t4"]


@pytest.mark.parametrize("role", [role for role in Role if role < Role.PLATFORM])
async def test_only_the_platform_manages_tenants(server, role):
    async with await server.client(role) as client:
        for refused in (
            client.tenants.create("acme"),
            client.tenants.get("default"),
            client.tenants.suspend("acme"),
            client.tenants.resume("acme"),
            client.tenants.delete("acme"),
        ):
            with pytest.raises(RoleInsufficient, match="platform"):
                await refused


async def test_a_suspended_tenant_is_refused_and_goes_on_when_resumed(server, platform):
    key = await server.key(Role.CLASSIFIER, "acme")
    async with AsyncImageCategorizationClient(key, server.address) as client:
        await client.classify_image(PICTURE)
        assert (await platform.tenants.suspend("acme")).state == "SUSPENDED"
        assert (await platform.tenants.suspend("acme")).state == "SUSPENDED"
        await eventually(lambda: is_refused(client, TenantSuspended), WITHIN_S)
        assert (await platform.tenants.resume("acme")).state == "ACTIVE"
        await eventually(lambda: is_served(client), WITHIN_S)


async def is_refused(client, error):
    try:
        await client.classify_image(PICTURE)
    except error:
        return True
    return False


async def is_served(client):
    return not await is_refused(client, TenantSuspended)


async def test_a_stream_ends_when_its_tenant_is_suspended(server, platform):
    key = await server.key(Role.CLASSIFIER, "acme")

    async def pictures():
        yield "0", PICTURE
        await platform.tenants.suspend("acme")
        await eventually(lambda: is_refused(client, TenantSuspended), WITHIN_S)
        yield "1", PICTURE

    async with AsyncImageCategorizationClient(key, server.address) as client:
        with pytest.raises(TenantSuspended):
            [result.key async for result in client.classify_stream(pictures())]


async def test_batches_of_a_suspended_tenant_wait(batches, database):
    await ensure_tenants("acme", "other")
    await make_batch(batches, 8, tenant="acme")
    first = await chunks.claim("w", 30)
    await tenants.suspend_tenant("acme")
    await make_batch(batches, 4, tenant="other")
    assert (await chunks.claim("w", 30)).tenant_id == "other"
    assert await chunks.claim("w", 30) is None
    assert await chunks.extend(first, 30)  # what has begun is finished
    await tenants.resume_tenant("acme")
    assert (await chunks.claim("w", 30)).tenant_id == "acme"


async def test_neither_the_default_tenant_nor_ones_own_can_be_suspended_or_deleted(
    server, platform
):
    own = await server.key(Role.PLATFORM, "ops")
    async with AsyncImageCategorizationClient(own, server.address) as client:
        for tenant_id in ("default", "ops"):
            for refused in (client.tenants.suspend(tenant_id), client.tenants.delete(tenant_id)):
                with pytest.raises(InvalidRequest):
                    await refused
    assert (await platform.tenants.delete("ops")).state == "DELETING"


async def test_limits_of_a_tenant_replace_those_of_the_settings(server, platform):
    key = await server.key(Role.CLASSIFIER, "acme")
    changed = await platform.tenants.update("acme", limits={"images_per_day": 1})
    assert changed == await platform.tenants.get("acme")
    assert (changed.limits, changed.display_name) == ({"images_per_day": 1}, "")

    async def refuses(client):
        try:
            await client.classify_image(PICTURE)
        except QuotaExceeded:
            return True
        return False

    async with AsyncImageCategorizationClient(key, server.address) as client:
        await eventually(lambda: refuses(client), WITHIN_S)
        lifted = await platform.tenants.update("acme", display_name="Acme", limits={})
        assert (lifted.limits, lifted.display_name) == ({}, "Acme")

        async def answers():
            return not await refuses(client)

        await eventually(answers, WITHIN_S)


@pytest.mark.parametrize(
    ("limits", "why"),
    [({"images_per_day": -1}, "images_per_day must be"), ({"requests_per_s": 1e300}, "from 0 to")],
)
async def test_limits_that_make_no_sense_are_refused(platform, limits, why):
    with pytest.raises(InvalidRequest, match=why):
        await platform.tenants.update("default", limits=limits)
    assert (await platform.tenants.get("default")).limits == {}


async def test_only_what_exists_can_be_changed(platform):
    with pytest.raises(TenantNotFound):
        await platform.tenants.update("nobody", display_name="x")
    with pytest.raises(TypeError, match="no limit images"):
        await platform.tenants.update("default", limits={"images": 1})


async def test_keys_are_a_tenant_s_own(database):
    await ensure_tenants("acme")
    made = await keys.create_key("camera", Role.VIEWER, tenant_id="acme")
    assert [key.key_id for key in await api_keys_of("acme")] == [made.key.key_id]
    assert await api_keys_of() == []
    with pytest.raises(KeyNotFound):
        await keys.ApiKeys(SecuritySettings()).revoke(keys.operator(), made.key.key_id)
    with pytest.raises(NoSuchTenant):
        await keys.create_key("camera", Role.VIEWER, tenant_id="nobody")


async def test_a_deleted_tenant_s_keys_look_like_unknown_ones(server, platform):
    key = await server.key(Role.ADMIN, "acme")
    async with AsyncImageCategorizationClient(key, server.address) as client:
        await client.classify_image(PICTURE)
        deleted = await platform.tenants.delete("acme")
        assert (deleted.state, await platform.tenants.delete("acme")) == ("DELETING", deleted)
        await eventually(lambda: is_refused(client, CredentialsInvalid), WITHIN_S)
        for refused in (platform.tenants.suspend("acme"), platform.tenants.resume("acme")):
            with pytest.raises(TenantNotFound):
                await refused
        with pytest.raises(TenantExists):
            await platform.tenants.create("acme")


async def furnish(batches, storage, url, tenant_id):
    """Gives a tenant something of everything."""
    await ensure_tenants(tenant_id)
    await keys.create_key("camera", Role.VIEWER, tenant_id=tenant_id)
    await made_and_done(batches, tenant_id)
    await make_batch(batches, 9, tenant_id)
    await store_image(storage, tenant_id, b"no row refers to it")
    connection = await connect_as_owner(url)
    for statement in FURNISH:
        await connection.execute(statement, tenant_id)
    await connection.close()


FURNISH = (
    """
    INSERT INTO webhooks (tenant_id, webhook_id, url, state, secret, create_time)
    SELECT $1::text, 'w-' || n, 'https://example.com', 'ENABLED', 's', now()
    FROM generate_series(1, 3) n
    """,
    """
    INSERT INTO webhook_deliveries (delivery_id, tenant_id, webhook_id, target, url, event_type,
        batch_id, body, state, is_under_way, lease_token, attempt_count, attempts, create_time)
    SELECT $1::text || n, $1::text, 'w', 'w', '', 'e', 'b', '{}', 'PENDING', false, 0, 0, '[]',
        now()
    FROM generate_series(1, 3) n
    """,
    """
    INSERT INTO outbox (tenant_id, kind, batch_id, payload, create_time, take_after)
    SELECT $1::text, kind, 'b', '{}', now(), now() FROM unnest('{doorbell,webhook}'::text[]) kind
    """,
    """
    INSERT INTO batch_uploads (batch_id, tenant_id, lease_until)
    SELECT 'b-upload-' || $1::text, $1::text, now() + interval '1 hour'
    """,
)


async def made_and_done(batches, tenant_id):
    batch_id = await make_batch(batches, 5, tenant_id)
    await do_all(frozenset({1}))
    return batch_id


async def rows_of(url, tenant_id):
    """Returns how many rows a tenant has, by table, without the audit."""
    connection = await connect_as_owner(url)
    found = await contents(connection, tenant_id)
    await connection.close()
    return {table: rows for table, rows in found.items() if rows and table not in KEPT}


async def test_a_deleted_tenant_is_removed_without_a_trace_and_no_other(
    batches, storage, removal, cache, empty_database
):
    for tenant_id in ("acme", "acme2"):
        await furnish(batches, storage, empty_database, tenant_id)
        await cache.put(f"result:{tenant_id}:7", b"{}", 60)
    await batches.delete("acme", await made_and_done(batches, "acme"))
    other = await rows_of(empty_database, "acme2")
    assert len(other) >= 8
    other_images = {key for key in await keys_of(storage) if key.startswith("acme2/")}
    await tenants.delete_tenant("acme")
    gone = 0
    for _ in range(100):  # each time as after a crash: a process of its own, one piece
        gone += await TenantRemoval(storage, cache, 60, rows_at_once=1).sweep(max_pieces=1)
        await batches.remove_rows(1)
        await batches.remove_images(1)
    assert gone == 0
    assert set(await rows_of(empty_database, "acme")) == {"tenants"}
    clock.shift(61)
    assert await removal.sweep(max_pieces=9) == 1
    assert await rows_of(empty_database, "acme") == {}
    assert await rows_of(empty_database, "acme2") == other
    assert set(await keys_of(storage)) == other_images
    assert await cache.get("result:acme:7") is None
    assert await cache.get("result:acme2:7") == b"{}"
    await tenants.create_tenant("acme")
    assert await api_keys_of("acme") == []
    assert (await batches.list("acme")).items == []


async def test_a_name_stays_taken_until_everything_is_removed(
    batches, storage, removal, empty_database
):
    await furnish(batches, storage, empty_database, "acme")
    await tenants.delete_tenant("acme")
    clock.shift(61)
    for _ in range(3):  # images and rows of batches are not removed yet
        assert await removal.sweep(max_pieces=100) == 0
    with pytest.raises(Exception, match="still being removed"):
        await tenants.create_tenant("acme")
    while await batches.remove_rows(100) or await batches.remove_images(100):
        pass
    assert await removal.sweep(max_pieces=100) == 1


async def test_a_batch_that_runs_when_its_tenant_is_deleted_ends_at_once(batches, storage, removal):
    await ensure_tenants("acme")
    await make_batch(batches, 4, tenant="acme")
    chunk = await chunks.claim("w", 30)
    await tenants.delete_tenant("acme")
    await removal.sweep(max_pieces=100)
    assert not await results.record(chunk, [])
    assert await chunks.claim("w", 30) is None


async def test_an_upload_that_its_tenant_does_not_outlive_becomes_no_batch(
    batches, storage, removal
):
    await ensure_tenants("acme")

    async def items():
        async for item in numbered(2):
            yield item
        await tenants.delete_tenant("acme")
        await removal.sweep(max_pieces=100)

    with pytest.raises(Exception, match="silent"):
        await batches.create("acme", "key", BatchConfig(), items())
    assert (await batches.list("acme")).items == []


async def test_what_happens_to_a_tenant_is_in_the_audit_of_the_platform(
    server, platform, empty_database
):
    await platform.tenants.create("acme")
    await platform.tenants.suspend("acme")
    await platform.tenants.suspend("acme")
    await platform.tenants.resume("acme")
    await platform.tenants.delete("acme")
    connection = await connect_as_owner(empty_database)
    rows = await connection.fetch(
        "SELECT * FROM audit_events WHERE action LIKE 'tenant.%' ORDER BY seq"
    )
    await connection.close()
    assert [row["action"] for row in rows] == [
        "tenant.create",
        "tenant.suspend",
        "tenant.resume",
        "tenant.delete",
    ]
    assert {(row["tenant_id"], row["resource"]) for row in rows} == {("default", "acme")}
    assert all(row["actor_id"] and row["request_id"] for row in rows)


async def test_log_lines_of_a_call_name_its_tenant(settings, caplog):
    changed = settings.model_copy(update={"log_level": "DEBUG"})
    caplog.set_level("DEBUG", "image_categorizer_server")
    async with running_server(changed) as server:
        for tenant_id in ("acme", "other"):
            key = await server.key(Role.VIEWER, tenant_id)
            async with AsyncImageCategorizationClient(key, server.address) as client:
                await client.models.categories()
    lines = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    served = [line["tenant_id"] for line in lines if line["event"] == "served"]
    assert served == ["acme", "other"]


async def test_concurrent_creations_make_one_tenant(database):
    made = await asyncio.gather(
        *(tenants.create_tenant("acme") for _ in range(8)), return_exceptions=True
    )
    assert sum(not isinstance(outcome, Exception) for outcome in made) == 1
