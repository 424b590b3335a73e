"""Legal holds: what is held is removed by nobody, and the error says so."""

import asyncio

import pytest
from image_categorizer import (
    ImageNotFound,
    InvalidRequest,
    LegalHoldNotFound,
    LegallyHeld,
    SubjectErased,
)
from image_categorizer_server import clock
from image_categorizer_server.db import data_key
from image_categorizer_server.db.database import connected, transaction
from image_categorizer_server.db.legal_hold import refuse_held, targets_of
from image_categorizer_server.domain.access import Role
from image_categorizer_server.errors import LegallyHeld as Held
from image_categorizer_server.services.tenant import create_tenant, delete_tenant
from image_categorizer_server.settings.privacy import PrivacySettings

from tests.support.batch_tools import do_all
from tests.support.pictures import jpeg

PICTURE, OTHER = jpeg(64, 48, 91), jpeg(64, 48, 92)
SUBJECT = "ann"
pytestmark = pytest.mark.usefixtures("every_tenant", "restored_clock")


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"privacy": PrivacySettings(secret="s" * 32)})


@pytest.fixture
async def admin(server):
    async with await server.client(Role.ADMIN) as client:
        yield client


async def test_an_image_is_held_from_deletion_and_from_the_erasure_of_its_subject(
    server, client, admin
):
    image = await client.images.upload(PICTURE, subject_id=SUBJECT)
    other = await client.images.upload(OTHER)
    hold = await admin.legal_holds.create(image_id=image.image_id, reference="case 7")
    assert (hold.image_id, hold.subject_key, hold.whole_tenant) == (image.image_id, "", False)
    with pytest.raises(LegallyHeld, match="legal hold"):
        await client.images.delete(image.image_id)
    with pytest.raises(LegallyHeld):
        await admin.subjects.erase(SUBJECT)
    await client.images.delete(other.image_id)
    await admin.subjects.erase("bob")
    assert [found async for found in admin.legal_holds.list()] == [hold]
    released = await admin.legal_holds.release(hold.hold_id)
    assert released.end_time is not None
    assert await admin.legal_holds.release(hold.hold_id) == released
    await client.images.delete(image.image_id)
    with pytest.raises(ImageNotFound):
        await admin.legal_holds.create(image_id=image.image_id)
    async with connected() as connection:
        query = "SELECT action FROM audit_events WHERE action LIKE 'legal_hold.%' ORDER BY seq"
        actions = [row["action"] for row in await connection.fetch(query)]
    assert actions == ["legal_hold.create", "legal_hold.release"]


async def test_a_subject_is_held_with_its_images_and_batches(client, admin):
    image = await client.images.upload(PICTURE, subject_id=SUBJECT)
    batch = await client.batches.submit([("a.jpg", OTHER)], subject_id=SUBJECT)
    free = await client.batches.submit([("a.jpg", OTHER)])
    await do_all()
    hold = await admin.legal_holds.create(subject_id=SUBJECT)
    assert (hold.image_id, len(hold.subject_key)) == ("", 32)
    for removing in (
        client.images.delete(image.image_id),
        client.batches.delete(batch.batch_id),
        admin.subjects.erase(SUBJECT),
        admin.subjects.erase(f"key:{hold.subject_key}"),
    ):
        with pytest.raises(LegallyHeld):
            await removing
    await client.batches.delete(free.batch_id)
    await client.images.upload(OTHER, subject_id=SUBJECT)  # more may be stored
    await admin.legal_holds.release(hold.hold_id)
    await client.batches.delete(batch.batch_id)


async def test_an_erasure_waits_for_a_hold_that_is_newer(server, client, admin):
    await client.images.upload(PICTURE, subject_id=SUBJECT)
    erasure = await admin.subjects.erase(SUBJECT)
    with pytest.raises(SubjectErased):
        await admin.legal_holds.create(subject_id=SUBJECT)
    clock.shift(1)
    hold = await admin.legal_holds.create(whole_tenant=True)
    assert await server.backend.erasures.sweep() == 0
    assert len([image async for image in client.images.list()]) == 1
    await admin.legal_holds.release(hold.hold_id)
    assert await server.backend.erasures.sweep() == 1
    assert (await admin.subjects.erasure(erasure.erasure_id)).is_done


async def test_a_hold_of_a_restored_database_does_not_stop_an_erasure_that_is_newer(
    server, client, admin
):
    """The hold had ended before the subject was erased: the backup is older."""
    image = await client.images.upload(PICTURE, subject_id=SUBJECT)
    hold = await admin.legal_holds.create(image_id=image.image_id)
    await admin.legal_holds.release(hold.hold_id)
    await admin.subjects.erase(SUBJECT)
    async with connected() as connection:
        await connection.execute("UPDATE legal_holds SET end_time = NULL")
    assert await server.backend.erasures.sweep() == 1


async def test_a_tenant_that_is_held_is_not_deleted_nor_anything_of_it(server, client, admin):
    image = await client.images.upload(PICTURE)
    batch = await client.batches.submit([("a.jpg", PICTURE)])
    await do_all()
    hold = await admin.legal_holds.create(whole_tenant=True)
    assert hold.whole_tenant
    with pytest.raises(LegallyHeld):
        await client.images.delete(image.image_id)
    with pytest.raises(LegallyHeld):
        await client.batches.delete(batch.batch_id)
    with pytest.raises(Held):
        await data_key.erase("default", clock.now())
    await create_tenant("held", "")
    await server.backend.holds.create("held", targets_of()[0], "")
    with pytest.raises(Held):
        await delete_tenant("held")
    await create_tenant("free", "")
    await delete_tenant("free")


async def test_a_webhook_with_a_held_delivery_is_not_deleted(client, admin, server):
    async with connected() as connection:
        for number, subject_key in enumerate(("", "k" * 32), 1):
            await connection.execute(
                """
                INSERT INTO webhooks (tenant_id, webhook_id, url, state, secret, create_time)
                VALUES ('default', 'w-' || $1::int, 'https://a.example', 'ENABLED', '', now())
                """,
                number,
            )
            await connection.execute(
                """
                INSERT INTO webhook_deliveries (delivery_id, tenant_id, webhook_id, target, url,
                    event_type, batch_id, body, state, is_under_way, lease_token, attempt_count,
                    attempts, create_time, subject_key)
                VALUES ('d-' || $1::int, 'default', 'w-' || $1::int, 'w', '', '', '', '', 'FAILED',
                    false, 0, 1, '[]', now(), $2)
                """,
                number,
                subject_key,
            )
    async with transaction() as connection:
        await connection.execute(
            "INSERT INTO legal_holds VALUES ('default', 'h', 'subject:' || $1, '', now())",
            "k" * 32,
        )
    await admin.webhooks.delete("w-1")
    with pytest.raises(LegallyHeld):
        await admin.webhooks.delete("w-2")


async def test_a_hold_waits_for_a_removal_that_is_under_way(client, admin):
    image = await client.images.upload(PICTURE)
    async with transaction() as connection:
        await refuse_held(connection, "default", targets_of("", image.image_id))
        holding = asyncio.create_task(admin.legal_holds.create(image_id=image.image_id))
        done, _ = await asyncio.wait([holding], timeout=0.3)
        assert not done
        await connection.execute("DELETE FROM images WHERE image_id = $1", image.image_id)
    with pytest.raises(ImageNotFound):
        await holding


async def test_what_is_held_must_be_named(admin):
    with pytest.raises(TypeError):
        await admin.legal_holds.create()
    with pytest.raises(InvalidRequest, match="reference"):
        await admin.legal_holds.create(whole_tenant=True, reference="x" * 201)
    for hold_id in ("h-unknown", "a/b"):
        with pytest.raises(LegalHoldNotFound):
            await admin.legal_holds.release(hold_id)
