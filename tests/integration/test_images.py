"""Stored images: each once for a subject, seen by nobody else, and gone when they are deleted."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from image_categorizer import (
    AsyncImageCategorizationClient,
    FailedPrecondition,
    ImageNotFound,
    InvalidRequest,
    RoleInsufficient,
    UndecodableImage,
)
from image_categorizer_server import clock
from image_categorizer_server.db import image as rows
from image_categorizer_server.db import removal
from image_categorizer_server.db.database import connected
from image_categorizer_server.domain.access import Role, Scope
from image_categorizer_server.domain.image import NewImage
from image_categorizer_server.domain.key import KeySpec
from image_categorizer_server.services.image import remove_silent_images
from image_categorizer_server.services.key import operator
from image_categorizer_server.settings.privacy import PrivacySettings

from tests.integration.conftest import running_server
from tests.support.pictures import jpeg

PICTURE = jpeg(64, 48)
pytestmark = pytest.mark.usefixtures("every_tenant")


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"privacy": PrivacySettings(secret="s" * 32)})


@pytest.fixture
def images(server):
    return server.backend.images


async def count(table):
    async with connected() as connection:
        return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))


async def is_stored(settings, image):
    return (settings.storage.path / image.object_key).exists()


async def begin(image):
    return await rows.begin("default", [image], clock.now() + timedelta(seconds=60))


async def remove_objects(server):
    while await server.backend.batches.remove_images(10):
        pass


async def test_an_image_is_stored_once_and_found_again(client, settings):
    first = await client.images.upload(
        PICTURE, filename="rose.jpg", tags=["red", "garden", "red"], subject_id="ann"
    )
    again = await client.images.upload(PICTURE, filename="other.jpg", subject_id="ann")
    assert again == first
    assert (first.filename, first.tags, first.subject_id) == ("rose.jpg", ("garden", "red"), "ann")
    assert (first.width_px, first.height_px, first.format) == (64, 48, "JPEG")
    assert first.result is None
    others = [await client.images.upload(PICTURE, subject_id=name) for name in ("", "bob")]
    assert len({first.image_id, *(other.image_id for other in others)}) == 3
    assert await client.images.get(first.image_id) == first
    listed = [image async for image in client.images.list()]
    assert listed == [*reversed(others), first]
    assert [image async for image in client.images.list(subject_id="ann")] == [first]


async def test_many_calls_with_one_image_store_it_once(client):
    found = await asyncio.gather(*(client.images.upload(PICTURE) for _ in range(16)))
    assert len({image.image_id for image in found}) == 1
    assert await count("images") == 1


async def test_a_classified_image_is_kept_with_its_result(client, images):
    plain = await client.classify_image(PICTURE)
    assert (plain.image_id, plain.result_id) == ("", "")
    first = await client.classify_image(PICTURE, store=True, subject_id="ann")
    second = await client.classify_image(PICTURE, store=True, subject_id="ann", top_k=1)
    assert first.image_id == second.image_id
    image = await client.images.get(first.image_id)
    assert image.result is not None
    assert (image.result.result_id, image.result.model) == (second.result_id, second.model)
    assert image.result.predictions == second.predictions
    assert image.subject_id == "ann"
    assert await count("image_results") == 2
    assert await images.content("default", first.image_id) == PICTURE


async def test_a_bad_image_is_not_kept(client):
    for call in (client.images.upload, client.classify_image):
        options = {"store": True} if call == client.classify_image else {}
        with pytest.raises(UndecodableImage):
            await call(PICTURE[:100], **options)
    assert await count("images") == 0


async def test_a_deleted_image_leaves_nothing(client, server, settings):
    kept = await client.classify_image(PICTURE, store=True, subject_id="ann")
    image = await server.backend.images.get("default", kept.image_id)
    assert await is_stored(settings, image)
    assert "ann" not in image.object_key
    await client.images.delete(kept.image_id)
    for call in (client.images.get, client.images.delete):
        with pytest.raises(ImageNotFound):
            await call(kept.image_id)
    await remove_objects(server)
    assert not await is_stored(settings, image)
    assert [await count(table) for table in ("images", "image_results")] == [0, 0]


async def test_an_object_stays_while_another_image_refers_to_it(client, server, settings):
    batch = await client.batches.submit([("a.jpg", PICTURE)])
    image = await client.images.upload(PICTURE)
    stored = await server.backend.images.get("default", image.image_id)
    await client.batches.cancel(batch.batch_id)
    await client.batches.delete(batch.batch_id)
    while await server.backend.batches.remove_rows(10):
        pass
    await remove_objects(server)
    assert await is_stored(settings, stored)
    await client.images.delete(image.image_id)
    await remove_objects(server)
    assert not await is_stored(settings, stored)


async def test_an_image_that_is_being_removed_is_stored_again(client, server, settings):
    image = await client.images.upload(PICTURE)
    stored = await server.backend.images.get("default", image.image_id)
    await client.images.delete(image.image_id)
    taken = await removal.claim_images(60.0)
    assert taken is not None
    assert taken.keys == (stored.object_key,)
    again = asyncio.create_task(client.images.upload(PICTURE))
    await asyncio.wait({again}, timeout=0.3)
    assert not again.done()
    (settings.storage.path / stored.object_key).unlink()
    await removal.end_removal(taken)
    assert (await again).image_id != image.image_id
    assert await is_stored(settings, stored)


@pytest.mark.usefixtures("restored_clock")
async def test_what_a_dead_process_was_storing_is_stored_anew_or_removed(client, server, settings):
    service = server.backend.images
    image = await service.store("default", NewImage(PICTURE, subject_id="ann"))
    dead = replace(image, image_id="i-dead", subject_key="", sha256="0" * 64)
    assert await begin(dead) == [True]
    assert len((await service.list_page("default")).items) == 1
    assert await rows.get("default", "i-dead") is None
    other = replace(dead, image_id="i-other", create_time=clock.now())
    assert await begin(other) == [False]
    assert await remove_silent_images() == 0
    clock.shift(61.0)
    late = replace(other, create_time=clock.now())
    assert await begin(late) == [True]
    assert await rows.finish("default", [dead]) == [False]
    clock.shift(122.0)
    assert await remove_silent_images() == 1
    assert await rows.finish("default", [late]) == [False]
    await remove_objects(server)
    assert await is_stored(settings, image)  # the other image refers to the same object


async def test_nobody_sees_the_images_of_another_tenant(client, server):
    mine = await client.images.upload(PICTURE)
    stranger = await server.key(Role.ADMIN, "t2")
    async with AsyncImageCategorizationClient(stranger, server.address) as other:
        theirs = await other.images.upload(PICTURE)
        assert theirs.image_id != mine.image_id
        assert [image async for image in other.images.list()] == [theirs]
        for call in (other.images.get, other.images.delete):
            with pytest.raises(ImageNotFound):
                await call(mine.image_id)
    assert await client.images.get(mine.image_id) == mine


async def test_wrong_fields_are_named(client):
    with pytest.raises(InvalidRequest, match="filename.*tags.*subject_id"):
        await client.images.upload(PICTURE, filename="a\x00", tags=["x" * 65], subject_id="s" * 129)
    with pytest.raises(InvalidRequest, match="subject_id"):
        await client.classify_image(PICTURE, store=True, subject_id="a\nb")
    with pytest.raises(ImageNotFound):
        await client.images.get("../../etc/passwd")


async def test_without_a_secret_nothing_is_kept_about_subjects(settings):
    changed = settings.model_copy(update={"privacy": PrivacySettings()})
    async with running_server(changed) as server, await server.client() as client:
        with pytest.raises(FailedPrecondition, match="CATEGORIZER_PRIVACY__SECRET"):
            await client.images.upload(PICTURE, subject_id="ann")
        assert (await client.images.upload(PICTURE)).subject_id == ""


async def test_credentials_with_scopes_need_that_of_images_to_store(server):
    spec = KeySpec("x", Role.CLASSIFIER, scopes=frozenset({Scope.CLASSIFY}))
    key = await server.backend.keys.create(operator(), spec)
    async with AsyncImageCategorizationClient(key.secret, server.address) as limited:
        with pytest.raises(RoleInsufficient, match="images:write"):
            await limited.classify_image(PICTURE, store=True)
        assert (await limited.classify_image(PICTURE)).image_id == ""
