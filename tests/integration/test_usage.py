"""Usage: what is counted for whom, and that no count is lost or made twice."""

import asyncio
from datetime import date, timedelta

import pytest
from image_categorizer import (
    InvalidRequest,
    RoleInsufficient,
    UndecodableImage,
)
from image_categorizer_server import clock
from image_categorizer_server.db import chunk as chunks
from image_categorizer_server.db import result as results
from image_categorizer_server.db import usage as rows
from image_categorizer_server.db.database import connected
from image_categorizer_server.domain.access import Role
from image_categorizer_server.domain.batch import BatchConfig
from image_categorizer_server.domain.classification import Caller, Lane
from image_categorizer_server.domain.usage import Usage, UsageGroup, UsageKey
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.services.usage import UsageMeter, read_usage
from image_categorizer_server.settings.database import CacheSettings
from image_categorizer_server.settings.usage import UsageSettings
from redis.asyncio import Redis

from tests.integration.conftest import running_server
from tests.integration.test_workers import ended, submit, worker_components, working
from tests.support.batch_tools import do_all, do_chunk, failed_outcome, files, right_outcome
from tests.support.ledger import pictures
from tests.support.pictures import jpeg
from tests.support.polling import eventually

PICTURE = jpeg(64, 48)
DAY, KEY, MODEL = UsageGroup.DAY, UsageGroup.KEY, UsageGroup.MODEL
TODAY = date(2026, 3, 14)
CALLER = Caller("t1", Lane.INTERACTIVE, 0.0, key_id="k1")


async def total_of(tenant_id="default") -> Usage:
    _, _, found = await read_usage(tenant_id, None, None, DAY)
    total = Usage()
    for row in found:
        total += row.usage
    return total


async def by_key(tenant_id="default") -> dict[str, Usage]:
    _, _, found = await read_usage(tenant_id, None, None, KEY)
    return {str(row.key_id): row.usage for row in found}


@pytest.fixture
async def counting(settings, stores):
    """A server with a result cache that writes its usage at once."""
    async with Redis.from_url(stores.redis.url) as redis:
        await redis.flushall()
    changes = {"usage": UsageSettings(flush_interval_s=0.05), "cache": CacheSettings()}
    async with running_server(settings.model_copy(update=changes)) as server:
        yield server


async def test_single_images_and_streams_are_counted(counting):
    async with await counting.client() as client:
        await client.classify_image(PICTURE)
        await client.classify_image(PICTURE)
        with pytest.raises(UndecodableImage):
            await client.classify_image(b"no image")
        sources = [(str(seed), jpeg(64, 48, seed)) for seed in range(3)]
        assert [r.error async for r in client.classify_stream(sources)] == [None] * 3
        sizes = 2 * len(PICTURE) + len(b"no image") + sum(len(image) for _, image in sources)

    async def is_counted() -> bool:
        return (await total_of()).images == 6

    await eventually(is_counted, 5)
    async with await counting.client(Role.OPERATOR) as client:
        used = await client.usage(group_by="model")
    (row,) = used.rows
    assert row.model == "small"
    assert (row.images, row.cached_images, row.failed_images) == (6, 2, 1)
    assert row.bytes == sizes
    assert row.model_ms > 0
    assert used.total.images == 6
    assert used.end_date - used.start_date == timedelta(days=29)


async def test_what_is_refused_for_other_reasons_is_not_counted(counting):
    async with await counting.client() as client:
        with pytest.raises(Exception, match="model"):
            await client.classify_image(PICTURE, model="nothing")
    async with await counting.client(Role.VIEWER) as client:
        with pytest.raises(RoleInsufficient):
            await client.classify_image(PICTURE)
        with pytest.raises(RoleInsufficient):
            await client.usage()


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"start_date": date(2026, 3, 2), "end_date": date(2026, 3, 1)}, "end_date"),
        ({"group_by": "color"}, "group_by"),
    ],
)
async def test_wrong_questions_are_refused(counting, arguments, field):
    async with await counting.client(Role.OPERATOR) as client:
        with pytest.raises(InvalidRequest) as caught:
            await client.usage(**arguments)
    assert [name for name, _ in caught.value.violations] == [field]


async def test_a_server_that_stops_loses_nothing(settings, database):
    changes = {"usage": UsageSettings(flush_interval_s=300)}
    async with running_server(settings.model_copy(update=changes)) as server:
        async with await server.client() as client:
            await asyncio.gather(*(client.classify_image(PICTURE) for _ in range(5)))
        assert (await total_of()).images == 0
    assert (await total_of()).images == 5


async def test_a_database_that_is_down_delays_the_record(stores, database):
    meter = UsageMeter(UsageSettings())
    meter.count(CALLER, "m", Usage(images=1))
    await stores.postgres.stop()
    try:
        with pytest.raises(DependencyDown):
            await meter.flush()
        meter.count(CALLER, "m", Usage(images=1))
    finally:
        await stores.postgres.start()

    async def is_written() -> bool:
        try:
            await meter.flush()
        except DependencyDown:
            return False
        return True

    await eventually(is_written, 10)
    assert (await total_of("t1")).images == 2


async def test_processes_add_to_one_another(database):
    meters = [UsageMeter(UsageSettings()) for _ in range(4)]
    for meter in meters:
        for model in "ba":
            for _ in range(10):
                meter.count(CALLER, model, Usage(1, 0, 0, 100))
                meter.charge_model(CALLER, model, 0.5)
    await asyncio.gather(*(meter.flush() for meter in meters))
    _, _, found = await read_usage("t1", None, None, MODEL)
    assert [(r.model, r.usage.images, r.usage.bytes, r.usage.model_ms) for r in found] == [
        ("a", 40, 4000, 20.0),
        ("b", 40, 4000, 20.0),
    ]


async def test_items_of_batches_are_counted_with_their_outcomes_each_once(batches, database):
    contents = [b"one", b"two!", b"", b"four"]
    await batches.create("t1", "key 7", BatchConfig(), files(contents))
    assert (await by_key("t1"))["key 7"] == Usage(1, 0, 1, 0, 0.0)  # refused at once
    chunk = await chunks.claim("w", 30)
    items = chunk.items
    assert await results.record(chunk, [right_outcome(items[0])])
    outcomes = [right_outcome(items[0]), failed_outcome(items[1]), right_outcome(items[2])]
    assert await results.record(chunk, outcomes)
    assert not await do_chunk(chunk)  # its lease is over
    assert (await by_key("t1"))["key 7"] == Usage(4, 0, 2, 11, 0.0)


async def test_a_lost_lease_counts_nothing(batches, database):
    await batches.create("t1", "key", BatchConfig(), files([b"one", b"two"]))
    lost = await chunks.claim("w", 30)
    clock.shift(60)
    assert await chunks.expire()
    assert await do_all() == 2
    assert not await do_chunk(lost)
    assert (await total_of("t1")).images == 2


async def test_a_batch_is_attributed_to_its_key_with_the_time_of_the_model(settings, tmp_path):
    changes = {
        "models": settings.models.model_copy(update={"default": "fake"}),
        "test": settings.test.model_copy(update={"fake_model": "2,1"}),
        "storage": settings.storage.model_copy(update={"path": tmp_path / "images"}),
        "usage": UsageSettings(flush_interval_s=0.05),
    }
    settings = settings.model_copy(update=changes)
    given = pictures(30)
    async with (
        running_server(settings) as server,
        worker_components(settings, server) as components,
        working(components),
    ):
        assert (await ended(await submit(server.backend.batches, given))).succeeded_count == 30

        async def is_counted() -> bool:
            used = (await by_key()).get("key", Usage())
            return used.images == 30 and used.model_ms >= 30

        await eventually(is_counted, 5)
        assert set(await by_key()) == {"key"}
        assert (await total_of()).bytes == sum(len(picture.content) for picture in given)


async def test_days_groups_and_tenants(database):
    used = {
        UsageKey("t1", TODAY, "k1", "a"): Usage(5, 1, 2, 10, 1.5),
        UsageKey("t1", TODAY, "k2", "a"): Usage(7, 0, 0, 10, 0.5),
        UsageKey("t1", TODAY - timedelta(days=1), "k1", "b"): Usage(1, 0, 0, 1, 9.0),
        UsageKey("t1", TODAY - timedelta(days=2), "k1", "b"): Usage(100),
        UsageKey("t2", TODAY, "k9", "a"): Usage(1000),
    }
    async with connected() as connection:
        await rows.add(connection, used)
    first = TODAY - timedelta(days=1)
    found = {group: (await read_usage("t1", first, TODAY, group))[2] for group in UsageGroup}
    assert [(r.day, r.usage.images) for r in found[DAY]] == [(first, 1), (TODAY, 12)]
    assert [(r.key_id, r.usage.images) for r in found[KEY]] == [("k2", 7), ("k1", 6)]
    assert [(r.model, r.usage.model_ms) for r in found[MODEL]] == [("b", 9.0), ("a", 2.0)]
    assert found[DAY][1].usage == Usage(12, 1, 2, 20, 2.0)


async def test_old_days_are_removed(database):
    today = clock.now().date()
    used = {UsageKey("t1", today - timedelta(days=age), "k", "m"): Usage(1) for age in range(2500)}
    async with connected() as connection:
        await rows.add(connection, used)
    await UsageMeter(UsageSettings(retention_days=10)).remove_old()
    _, _, left = await read_usage("t1", date(2000, 1, 1), today, DAY)
    assert len(left) == 11
