"""Drift: what is counted, for whom, that days are compared, and that one process warns, once."""

from datetime import date, timedelta

import pytest
from image_categorizer import (
    AsyncImageCategorizationClient,
    DriftState,
    InvalidRequest,
    ModelNotFound,
)
from image_categorizer_server import clock
from image_categorizer_server.db import drift as rows
from image_categorizer_server.db.database import connected
from image_categorizer_server.domain.access import Role
from image_categorizer_server.domain.drift import Days, Version, bin_of
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.services.drift import PredictionMeter, compare
from image_categorizer_server.services.drift_gauge import measure_drift, report
from image_categorizer_server.settings.drift import DriftSettings
from image_categorizer_server.tasks import TaskOwner
from image_categorizer_server.telemetry.metrics import PREDICTION_DRIFT

from tests.integration.conftest import running_server
from tests.support.pictures import jpeg
from tests.support.polling import eventually

PICTURE = jpeg(64, 48)
TODAY = date(2026, 3, 31)
SMALL = Version("default", "small", 1)
SURE = bin_of(0.95)


async def count(days, categories, version=SMALL):
    """Writes how many images of each category each of some days has."""
    counted = {}
    for day in days:
        key = version.tenant_id, day, version.model, version.number
        for name, images in categories.items():
            counted[*key, rows.CATEGORY, name] = images
        counted[*key, rows.CONFIDENCE, SURE] = sum(categories.values())
    await rows.add(counted)


def before(first, last, end=TODAY):
    """Returns the days from `first` to `last` days before the end."""
    return [end - timedelta(days=days) for days in range(last, first + 1)]


def drift_metrics():
    """Returns the values of the metric by their labels."""
    (metric,) = PREDICTION_DRIFT.collect()
    return {tuple(sample.labels.values()): sample.value for sample in metric.samples}


async def test_every_classification_is_counted_for_its_tenant(every_tenant, server, client):
    today = clock.now().date()
    for options in ({}, {"store": True}, {"top_k": 1}):
        result = await client.classify_image(PICTURE, **options)
    sources = [(str(seed), jpeg(64, 48, seed)) for seed in range(3)]
    found = [result async for result in client.classify_stream(sources)]
    await client.classify_image(PICTURE, exclude_categories=["cat"])  # not what the model says
    await client.classify_image(PICTURE, confidence_threshold=1.0)
    await server.backend.predictions.flush()
    counts = await rows.read(SMALL, Days(today, today))
    assert counts.images == 7
    expected = dict.fromkeys((result.category, *(each.category for each in found)), 0)
    for category in (*[result.category] * 3, *(each.category for each in found)):
        expected[category] += 1
    assert counts.categories == expected | {"": 1}
    assert sum(counts.confidences.values()) == 7
    assert counts.confidences["0.0-0.1"] == 1
    drift = await client.models.drift("small")
    assert (drift.state, drift.window.images) == (DriftState.NOT_ENOUGH_IMAGES, 7)
    stranger = await server.key(Role.VIEWER, "t2")
    async with AsyncImageCategorizationClient(stranger, server.address) as other:
        assert (await other.models.drift("small")).window.images == 0


async def test_the_callers_see_drift_and_what_it_comes_from(every_tenant, client):
    await count(before(30, 7), {"cat": 50, "dog": 50})
    await count([TODAY], {"cat": 300, "dog": 100})
    await count([TODAY - timedelta(days=1)], {"cat": 200, "dog": 200})
    drift = await client.models.drift("small", end_date=TODAY)
    assert (drift.model, drift.version, drift.state) == ("small", 1, DriftState.SHIFTED)
    assert (drift.window.images, drift.reference.images) == (400, 2400)
    assert (drift.reference.start_date, drift.reference.end_date) == (
        TODAY - timedelta(days=30),
        TODAY - timedelta(days=7),
    )
    assert drift.category_index == pytest.approx(0.27, abs=0.01)
    assert [bucket.name for bucket in drift.categories] == ["cat", "dog"]
    assert drift.categories[0].window_share == pytest.approx(0.75, abs=0.01)
    assert drift.confidence_index < 0.05  # all are in one range
    quiet = await client.models.drift("small", end_date=TODAY - timedelta(days=1))
    assert (quiet.state, quiet.window.images) == (DriftState.STABLE, 400)
    both = await client.models.drift("small", end_date=TODAY, window_days=2)
    assert (both.window.images, both.state) == (800, DriftState.STABLE)
    fixed = TODAY - timedelta(days=1), TODAY - timedelta(days=1)
    other = await client.models.drift("small", end_date=TODAY, reference=fixed)
    assert other.state is DriftState.NOT_ENOUGH_IMAGES


async def test_a_window_grows_until_it_has_enough_images(every_tenant):
    await count(before(40, 7), {"cat": 100})
    await count(before(6, 0), {"cat": 30})
    drift = await compare(SMALL, TODAY)
    assert drift.window.days.first == TODAY - timedelta(days=3)
    assert drift.window.images == 120
    await count([TODAY - timedelta(days=100)], {"cat": 1})
    empty = await compare(SMALL, TODAY - timedelta(days=100))
    assert empty.window.days.first == TODAY - timedelta(days=106)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"window_days": 8}, "window_days"),
        ({"window_days": -1}, "window_days"),
        ({"reference": (TODAY, TODAY)}, "reference_end_date"),
        ({"reference": (TODAY - timedelta(days=9), TODAY - timedelta(days=10))}, "reference_end"),
        ({"reference": (TODAY - timedelta(days=900), TODAY - timedelta(days=9))}, "reference_st"),
    ],
)
async def test_wrong_days_are_named(client, options, field):
    with pytest.raises(InvalidRequest, match=field):
        await client.models.drift("small", end_date=TODAY, **options)
    with pytest.raises(ModelNotFound):
        await client.models.drift("large")


async def test_each_version_is_warned_of_once_a_day_if_it_drifts(every_tenant, caplog):
    steady, shifted = Version("default", "steady", 1), Version("t2", "small", 3)
    for version, now in ((steady, {"cat": 200, "dog": 200}), (shifted, {"cat": 400})):
        await count(before(30, 7), {"cat": 50, "dog": 50}, version)
        await count([TODAY], now, version)
    meters = [PredictionMeter(DriftSettings()) for _ in range(2)]
    never = PredictionMeter(DriftSettings(warn_above=0))
    found = [await meter.check(TODAY) for meter in meters]
    assert [[drift.version for drift in each] for each in found] == [[shifted], []]
    warnings = [record.msg for record in caplog.records if record.levelname == "WARNING"]
    (warning,) = [w for w in warnings if w["event"] == "predictions have drifted"]
    assert (warning["tenant_id"], warning["model"], warning["version"]) == ("t2", "small", 3)
    assert (warning["day"], warning["category_index"] > 0.25) == ("2026-03-31", True)
    await count([TODAY + timedelta(days=1)], {"cat": 400}, shifted)
    assert await never.check(TODAY + timedelta(days=1)) == []


async def test_the_metrics_have_the_drift_of_all_tenants_and_of_the_largest(every_tenant):
    today = clock.now().date()
    shifted, steady, rare = (Version(tenant, "small", 3) for tenant in ("default", "t2", "tiny"))
    for version, now in ((shifted, {"cat": 400}), (steady, {"cat": 1000, "dog": 1000})):
        await count(before(30, 7, today), {"cat": 50, "dog": 50}, version)
        await count([today], now, version)
    await count([today], {"cat": 50}, rare)
    settings = DriftSettings(metrics_interval_s=0.05, metrics_tenants=2)
    async with TaskOwner() as tasks:
        tasks.start(measure_drift(settings), "meter of drift")
        await eventually(lambda: len(drift_metrics()) == 6)
        found = drift_metrics()
        expected = await compare(shifted, today, 2)
        assert found["small", "3", "default", "category"] == expected.category_index > 0.25
        assert found["small", "3", "t2", "category"] < 0.05
        everybody = await compare(Version("", "small", 3), today, 2)
        assert everybody.window.images == 2450
        assert found["small", "3", "", "category"] == everybody.category_index
        assert found["small", "3", "", "confidence"] < 0.05
        async with connected() as connection:
            await connection.execute("DELETE FROM prediction_daily WHERE tenant_id <> 't2'")
        await eventually(lambda: ("small", "3", "default", "category") not in drift_metrics())
        assert drift_metrics()["small", "3", "", "category"] < 0.05
    report([])
    assert drift_metrics() == {}


async def test_rare_categories_of_a_day_become_one_and_old_days_go(every_tenant):
    many = {f"c{number:04}": 1000 - number for number in range(300)}
    await count([TODAY, TODAY - timedelta(days=101)], many)
    await PredictionMeter(DriftSettings(retention_days=100)).check(TODAY)
    found = await rows.read(SMALL, Days(TODAY, TODAY))
    assert len(found.categories) == 201
    assert found.categories["other"] == sum(1000 - number for number in range(200, 300))
    assert found.images == sum(many.values())
    async with connected() as connection:
        oldest = await connection.fetchval("SELECT min(day) FROM prediction_daily")
    assert oldest == TODAY


async def test_what_cannot_be_written_is_written_later(settings, stores):
    async with running_server(settings) as server, await server.client() as client:
        await client.classify_image(PICTURE)
        meter = server.backend.predictions
        await stores.postgres.stop()
        try:
            with pytest.raises(DependencyDown):
                await meter.flush()
        finally:
            await stores.postgres.start()
        await client.classify_image(PICTURE)
        await meter.flush()
        found = await client.models.drift("small")
    assert found.window.images == 2
