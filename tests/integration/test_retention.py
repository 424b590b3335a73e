"""Retention: what is too old goes, nothing goes early, and nothing that is held."""

import asyncio
import sys
import time
from datetime import timedelta

import pytest
from image_categorizer import InvalidRequest, RoleInsufficient
from image_categorizer_server import clock
from image_categorizer_server.access.signing import SigningKey
from image_categorizer_server.access.subject import Subjects
from image_categorizer_server.db import audit
from image_categorizer_server.db.database import connected
from image_categorizer_server.domain.access import Role
from image_categorizer_server.domain.legal_hold import WHOLE_TENANT
from image_categorizer_server.domain.retention import DataClass
from image_categorizer_server.errors import FailedPrecondition
from image_categorizer_server.services.audit_statement import AuditStatements
from image_categorizer_server.services.audit_verification import verify_audit
from image_categorizer_server.services.legal_hold import LegalHolds
from image_categorizer_server.services.retention import Retentions
from image_categorizer_server.settings.audit import AuditSettings
from image_categorizer_server.settings.privacy import PrivacySettings
from image_categorizer_server.stores.object_store import Storage
from obstore.store import LocalStore

from tests.support.audit_tools import new_event
from tests.support.batch_tools import do_all
from tests.support.database import ensure_tenants, run_as_owner
from tests.support.pictures import jpeg
from tests.support.retainer import MAX_PAGES, retentions_of

PICTURES = [jpeg(64, 48, seed) for seed in range(81, 85)]
KEY = SigningKey.generate()
DAY_S = 86_400
ROWS = """
INSERT INTO images (tenant_id, image_id, subject_key, subject_id, sha256, object_key, size_bytes,
    format, width_px, height_px, filename, tags, create_time)
SELECT $1, 'i-' || n, '', '', 's-' || n, $1 || '/images/00/' || n, 100, 'JPEG', 1, 1, '', '{}',
    now() - n * $3::float8 * interval '1 s'
FROM generate_series(1, $2::int) n
"""
pytestmark = pytest.mark.usefixtures("every_tenant", "restored_clock")


@pytest.fixture
def settings(settings):
    changes = {
        "privacy": PrivacySettings(secret="s" * 32),
        "audit": AuditSettings(signing_key=KEY.pem()),
    }
    return settings.model_copy(update=changes)


@pytest.fixture
async def admin(server):
    async with await server.client(Role.ADMIN) as client:
        yield client


async def count(table, where="true"):
    async with connected() as connection:
        return await connection.fetchval(f"SELECT count(*) FROM {table} WHERE {where}")


async def fill(tenant_id, number, apart_s):
    """Writes images whose objects are nowhere, the newest `apart_s` old."""
    async with connected() as connection:
        await connection.execute(ROWS, tenant_id, number, apart_s)


async def remove_objects(server):
    while await server.backend.batches.remove_rows(10):
        pass
    while await server.backend.batches.remove_images(10):
        pass


def objects(settings):
    return [path for path in (settings.storage.path / "default").rglob("*") if path.is_file()]


async def test_what_is_too_old_goes_with_its_objects_and_what_is_held_stays(
    server, client, admin, settings
):
    kept = [await client.classify_image(one, store=True) for one in PICTURES[:2]]
    of_subject = await client.images.upload(PICTURES[2], subject_id="ann")
    await client.images.content(kept[0].image_id, width=32)
    batch = await client.batches.submit([("a.jpg", PICTURES[3])])
    await do_all()
    await admin.legal_holds.create(image_id=kept[1].image_id)
    await admin.legal_holds.create(subject_id="ann", reference="case 7")
    before = await admin.retention.update({"IMAGES": 1, "BATCHES": 30, "AUDIT": 0})
    assert {rule.data_class: (rule.days, rule.is_default) for rule in before} == {
        "IMAGES": (1, False),
        "RESULTS": (0, True),
        "BATCHES": (30, False),
        "DELIVERIES": (30, True),
        "AUDIT": (0, False),
    }
    retentions = server.backend.retentions
    clock.shift(DAY_S - 60)
    assert await retentions.sweep(MAX_PAGES)
    assert await count("images") == 3
    clock.shift(DAY_S + 60)
    found = {one.rule.data_class: one for one in await admin.retention.preview()}
    images = found["IMAGES"]
    assert (images.count, images.held_count, found["BATCHES"].count) == (1, 2, 0)
    assert images.size_bytes == (await client.images.get(kept[0].image_id)).size_bytes
    assert images.oldest_time == (await client.images.get(kept[0].image_id)).create_time
    tried = {one.rule.data_class: one for one in await admin.retention.preview({"batches": 1})}
    assert (tried["BATCHES"].count, tried["BATCHES"].rule.days) == (1, 1)
    assert await retentions.sweep(MAX_PAGES)
    left = {image.image_id async for image in client.images.list()}
    assert left == {kept[1].image_id, of_subject.image_id}
    assert (await client.batches.get(batch.batch_id)).batch_id == batch.batch_id
    await remove_objects(server)
    assert len(objects(settings)) == 3  # two images that are held, and that of the batch
    clock.shift(30 * DAY_S + 60)
    await retentions.sweep(MAX_PAGES)
    await remove_objects(server)
    assert await count("batches") + await count("batch_items") + await count("batch_results") == 0
    assert len(objects(settings)) == 2
    for hold in [hold async for hold in admin.legal_holds.list()]:
        await admin.legal_holds.release(hold.hold_id)
    await retentions.sweep(MAX_PAGES)
    await remove_objects(server)
    assert objects(settings) == []
    assert await count("images") == 0
    assert await count("audit_events", "action = 'retention.removed'") == 3


async def test_results_go_before_their_image_and_are_no_longer_found(server, client):
    kept = await client.classify_image(PICTURES[0], store=True, top_k=1)
    search = kept.predictions[0].category
    clock.shift(2 * DAY_S)
    await client.classify_image(PICTURES[1], store=True)
    await retentions_of(results=1).sweep(MAX_PAGES)
    assert await count("image_results") == 1
    assert (await client.images.get(kept.image_id)).result is None
    found = [image.image_id async for image in client.images.list(category=search)]
    assert kept.image_id not in found
    for table in ("image_terms", "review_queue"):
        assert await count(table, f"image_id = '{kept.image_id}'") == 0
    again = await client.classify_image(PICTURES[0], store=True, no_cache=True)
    assert again.image_id == kept.image_id
    assert kept.image_id in [image.image_id async for image in client.images.list(category=search)]


async def test_the_rules_of_a_tenant_are_its_own(database):
    await ensure_tenants("t1", "t2", "t3")
    for tenant_id in ("t1", "t2", "t3"):
        await fill(tenant_id, 10, apart_s=DAY_S)
    short, whole = retentions_of(images=4.5), LegalHolds(Subjects(b""))
    await short.update("t2", {DataClass.IMAGES: 8})
    await whole.create("t3", WHOLE_TENANT, "")
    assert await short.sweep(MAX_PAGES)
    counts = [await count("images", f"tenant_id = 't{number}'") for number in (1, 2, 3)]
    assert counts == [4, 7, 10]
    await short.update("t2", {DataClass.IMAGES: None})
    assert await short.sweep(MAX_PAGES)
    assert await count("images", "tenant_id = 't2'") == 4


async def test_a_sweep_has_a_bound_and_goes_on_later(database):
    await ensure_tenants("t1")
    await fill("t1", 1200, apart_s=DAY_S)
    retentions = retentions_of(images=0.5)
    assert not await retentions.sweep(2)
    assert await count("images") == 200
    assert await retentions.sweep(2)
    assert await count("images") == 0


async def test_deliveries_are_kept_as_long_as_the_settings_say(server, client, admin):
    insert = """
        INSERT INTO webhook_deliveries (delivery_id, tenant_id, webhook_id, target, url, event_type,
            batch_id, body, state, is_under_way, lease_token, attempt_count, attempts, create_time,
            end_time)
        SELECT 'd-' || n, 'default', 'w', 'w', '', '', '', '', 'DELIVERED', false, 0, 1, '[]',
            now(), CASE WHEN n < 3 THEN now() END FROM generate_series(1, 3) n
    """
    async with connected() as connection:
        await connection.execute(insert)
    await server.backend.retentions.sweep(MAX_PAGES)
    clock.shift(29 * DAY_S)
    await server.backend.retentions.sweep(MAX_PAGES)
    assert await count("webhook_deliveries") == 3
    clock.shift(31 * DAY_S)
    await server.backend.retentions.sweep(MAX_PAGES)
    assert await count("webhook_deliveries") == 1  # it has not ended


async def test_the_audit_is_cut_where_a_statement_says_unless_it_is_held(server, admin, settings):
    storage = Storage(LocalStore(settings.storage.path), settings.storage)
    statements = AuditStatements(storage, KEY, settings.audit)
    now = clock.now()
    for days in (90, 80, 50, 1):
        await audit.append([new_event(tenant_id="default", time=now - timedelta(days=days))])
    await admin.retention.update({"AUDIT": 60})  # the settings say 400
    hold = await admin.legal_holds.create(whole_tenant=True)
    await statements.make()
    assert await statements.remove_old() == 0
    assert await forecast_of_audit(admin) == (0, 2)
    await admin.legal_holds.release(hold.hold_id)
    assert await forecast_of_audit(admin) == (2, 0)
    # And the event of the admin's key, which has a lower number.
    assert await statements.remove_old() == 3
    assert await forecast_of_audit(admin) == (0, 0)
    assert (await verify_audit(storage, KEY.public_key)).findings == []


async def forecast_of_audit(admin):
    (found,) = [one for one in await admin.retention.preview() if one.rule.data_class == "AUDIT"]
    return found.count, found.held_count


async def test_rules_are_checked_and_need_an_admin(server, client, admin):
    for days in ({}, {"IMAGES": -1}, {"IMAGES": 40_000}, {"AUDIT": 29}):
        with pytest.raises(InvalidRequest):
            await admin.retention.update(days)
    with pytest.raises(RoleInsufficient):
        await client.retention.get()
    with pytest.raises(RoleInsufficient):
        await client.legal_holds.create(whole_tenant=True)
    keyless = Retentions(dict.fromkeys(DataClass, 0), 60, cuts_audit=False)
    with pytest.raises(FailedPrecondition, match="key"):
        await keyless.update("default", {DataClass.AUDIT: 60})


@pytest.mark.parametrize(
    "number", [3000, pytest.param(100_000, marks=pytest.mark.slow)], ids=["few", "many"]
)
async def test_two_sweepers_one_of_which_is_killed_remove_all_that_is_old(
    database, settings, number
):
    """Half is too old, and a hundredth of it is held."""
    await ensure_tenants("t1")
    await fill("t1", number, apart_s=2 * DAY_S / number)
    async with connected() as connection:
        await connection.execute(
            "INSERT INTO legal_holds SELECT 't1', 'h-' || n, 'image:i-' || n, '', now()"
            " FROM generate_series($1::int, $2::int, 100) n",
            number // 2 + 50,
            number,
        )
    held = await count("legal_holds")
    # As PostgreSQL does by itself within a minute.
    await run_as_owner(settings.database_url, "ANALYZE images, legal_holds")
    command = sys.executable, "-m", "tests.support.retainer", settings.database_url, "0", "1"
    start_s = time.monotonic()
    for point in ("retention.removing:2", "retention.removed:2"):
        killed = await asyncio.create_subprocess_exec(*command, point)
        assert await killed.wait() == -9
    both = [await asyncio.create_subprocess_exec(*command) for _ in range(2)]
    assert [await process.wait() for process in both] == [0, 0]
    print(f"{number // 2} of {number} images removed in {time.monotonic() - start_s:.1f} s")
    assert await count("images", "create_time < now() - interval '1 day 1 minute'") == held
    # None went early: the numbers of the young ones have no gap.
    is_young = "create_time > now() - interval '1 day'"
    newest = f"SELECT max(substr(image_id, 3)::int) FROM images WHERE {is_young}"
    async with connected() as connection:
        assert await connection.fetchval(newest) == await count("images", is_young)
    # Each object is to be removed once, and none of an image that is there.
    keys = "SELECT jsonb_array_elements_text(payload->'keys') FROM outbox WHERE kind = 'blobs'"
    async with connected() as connection:
        removed = [row[0] for row in await connection.fetch(keys)]
    assert len(removed) == len(set(removed))
    assert await count("images", f"object_key IN ({keys})") == 0
    assert len(removed) + await count("images") == number
