"""Images that are stored as they are classified: of calls, of streams and of batches."""

import pytest
from image_categorizer import (
    AsyncImageCategorizationClient,
    ImageNotFound,
    InvalidRequest,
    QuotaExceeded,
    RoleInsufficient,
)
from image_categorizer_server.db.database import connected
from image_categorizer_server.domain.access import Role, Scope
from image_categorizer_server.domain.key import KeySpec
from image_categorizer_server.services.batch import Batches
from image_categorizer_server.services.key import operator
from image_categorizer_server.settings.privacy import PrivacySettings
from image_categorizer_server.stores.object_store import open_storage

from tests.integration.conftest import running_server
from tests.integration.test_workers import ended, submit, worker_components, working
from tests.support.ledger import Picture, pictures
from tests.support.pictures import jpeg

pytestmark = pytest.mark.usefixtures("every_tenant")


@pytest.fixture
def settings(settings, tmp_path):
    return settings.model_copy(
        update={
            "models": settings.models.model_copy(update={"default": "fake"}),
            "test": settings.test.model_copy(update={"fake_model": "0,0"}),
            "privacy": PrivacySettings(secret="s" * 32),
            "worker": settings.worker.model_copy(update={"poll_interval_s": 0.1}),
        }
    )


async def count(table):
    async with connected() as connection:
        return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))


async def test_a_batch_stores_every_image_once_with_its_result_also_when_it_runs_twice(
    settings, server, client
):
    given = pictures(40)
    named = [Picture(f"trip/{'long' * 80}\n{p.name}", p.content, p.category) for p in given[:1]]
    given = [*named, *given[1:], Picture("bad.jpg", b"no image", "")]
    async with (
        open_storage(settings) as storage,
        worker_components(settings, server) as components,
        working(components),
    ):
        batches = Batches(storage, settings.batch, settings.max_image_bytes)
        for run in (1, 2):
            batch = await ended(await submit(batches, given, store=True, subject_id="ann"))
            assert (batch.succeeded_count, batch.failed_count) == (40, 1)
            assert await count("images") == 40
            assert await count("image_results") == 40 * run
    stored = [image async for image in client.images.list(subject_id="ann")]
    categories = {image.filename: image.result.category for image in stored}
    expected = {p.name: p.category for p in given[1:-1]}
    assert len(categories) == 40
    assert expected.items() <= categories.items()
    (long_name,) = categories.keys() - expected.keys()
    assert len(long_name) == 255
    assert long_name.endswith("long0-0.png")


async def test_an_image_is_stored_by_the_name_of_its_file(client, tmp_path):
    file = tmp_path / "a b.jpg"
    file.write_bytes(jpeg(16, 16, 1))
    await client.classify_image(file, store=True)
    await client.classify_image(jpeg(16, 16, 2), store=True, filename="c.jpg")
    sources = [("x/d.jpg", jpeg(16, 16, 3))]
    assert [r.error async for r in client.classify_stream(sources, store=True)] == [None]
    stored = [image.filename async for image in client.images.list()]
    assert stored == ["d.jpg", "c.jpg", "a b.jpg"]


async def test_a_stored_image_is_classified_and_its_result_kept_with_it(client, server):
    stored = await client.images.upload(jpeg(16, 16), subject_id="ann")
    plain = await client.classify_image(image_id=stored.image_id)
    assert (plain.image_id, await count("image_results")) == ("", 0)
    kept = await client.classify_image(image_id=stored.image_id, store=True)
    assert kept.image_id == stored.image_id
    image = await client.images.get(stored.image_id)
    assert image.result is not None
    assert (image.result.result_id, image.result.predictions) == (kept.result_id, kept.predictions)
    assert await count("images") == 1
    with pytest.raises(InvalidRequest, match=r"options\.subject_id: must be empty with image_id"):
        await client.classify_image(image_id=stored.image_id, store=True, subject_id="bob")
    with pytest.raises(ImageNotFound):
        await client.classify_image(image_id="i-none")
    stranger = await server.key(Role.ADMIN, "t2")
    async with AsyncImageCategorizationClient(stranger, server.address) as other:
        with pytest.raises(ImageNotFound):
            await other.classify_image(image_id=stored.image_id)
    spec = KeySpec("x", Role.CLASSIFIER, scopes=frozenset({Scope.CLASSIFY}))
    key = await server.backend.keys.create(operator(), spec)
    async with AsyncImageCategorizationClient(key.secret, server.address) as limited:
        with pytest.raises(RoleInsufficient, match="images:read"):
            await limited.classify_image(image_id=stored.image_id)


@pytest.mark.parametrize("has_spare", [False, True])
async def test_an_image_that_is_stored_already_needs_no_room(settings, server, client, has_spare):
    first, second = jpeg(64, 64, 1), jpeg(64, 64, 2)
    most = len(first) + len(second) + (len(first) - 1 if has_spare else 0)
    quota = settings.quota.model_copy(update={"stored_bytes": most})
    changed = settings.model_copy(
        update={
            "quota": quota,
            "server": settings.server.model_copy(update={"bind": f"{settings.server.bind}2"}),
        }
    )
    async with running_server(changed) as limited, await limited.client() as ours:
        ids = {
            (await ours.classify_image(first, store=True, model="small")).image_id for _ in range(3)
        }
        assert len(ids) == 1
        await ours.classify_image(second, store=True, model="small")
        again = await ours.classify_image(second, store=True, model="small")
        image = await ours.images.get(again.image_id)
        assert image.result.result_id == again.result_id
        with pytest.raises(QuotaExceeded, match="the image has .* are free"):
            await ours.classify_image(jpeg(96, 96, 3), store=True, model="small")


async def test_stored_images_count_against_the_bytes_of_the_tenant(settings, server, client):
    first, second = jpeg(64, 64, 1), jpeg(64, 64, 2)
    quota = settings.quota.model_copy(update={"stored_bytes": len(first) + len(second) - 1})
    changed = settings.model_copy(
        update={
            "quota": quota,
            "server": settings.server.model_copy(update={"bind": f"{settings.server.bind}2"}),
        }
    )
    async with running_server(changed) as limited, await limited.client() as ours:
        await ours.images.upload(first)
        for call in (ours.images.upload, ours.classify_image):
            options = {"store": True} if call == ours.classify_image else {}
            with pytest.raises(QuotaExceeded, match="the image has .* are free"):
                await call(second, **options)
        await ours.images.upload(first)  # it is stored already
        with pytest.raises(QuotaExceeded, match="the batch has"):
            await ours.batches.submit([("a", second)])
        (image,) = [image async for image in ours.images.list()]
        await ours.images.delete(image.image_id)
        await ours.batches.submit([("a", second)])
