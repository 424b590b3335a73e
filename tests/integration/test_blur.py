"""What is blurred is classified, but not stored: neither its pixels nor what the model knows."""

import hashlib
import io

import numpy as np
import pytest
from image_categorizer import EmbeddingMissing, InvalidRequest
from image_categorizer_server.db.database import connected
from image_categorizer_server.domain.access import Role
from image_categorizer_server.settings.privacy import PrivacySettings
from PIL import Image

from tests.support.pictures import encoded, scene

BLUR = ["80,60,240,180"]
INSIDE = np.s_[60:180, 80:240]
PICTURE = encoded(scene(seed=5), "PNG")
pytestmark = pytest.mark.usefixtures("every_tenant")


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"privacy": PrivacySettings(secret="s" * 32)})


async def count(table):
    async with connected() as connection:
        return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))


def stored_files(settings):
    folder = settings.storage.path / "default"
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


def pixels(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


async def test_the_whole_image_is_classified_and_the_blurred_one_is_stored(
    server, client, settings
):
    plain = await client.classify_image(PICTURE, no_cache=True)
    answer = await client.classify_image(PICTURE, store=True, blur=BLUR, no_cache=True)
    assert answer.predictions == plain.predictions
    image = await client.images.get(answer.image_id)
    (content,) = stored_files(settings)
    assert image.sha256 == hashlib.sha256(content).hexdigest()
    before, after = pixels(PICTURE), pixels(content)
    assert len(np.unique(after[INSIDE].reshape(-1, 3), axis=0)) == 1
    outside = np.ones(before.shape[:2], bool)
    outside[INSIDE] = False
    assert np.array_equal(before[outside], after[outside])
    # Its embedding would know what is blurred.
    assert await count("image_embeddings") == 0
    with pytest.raises(EmbeddingMissing):
        await client.images.similar(answer.image_id)
    shown = pixels(await client.images.content(image.image_id, image_format="png"))
    assert np.array_equal(shown, after)
    # What the results say about the call says nothing about persons.
    async with connected() as connection:
        assert "80,60" not in str(await connection.fetchval("SELECT options FROM image_results"))


async def test_an_image_with_other_parts_blurred_is_another_image(client, settings):
    first = await client.images.upload(PICTURE, blur=BLUR)
    assert await client.images.upload(PICTURE, blur=BLUR) == first
    second = await client.images.upload(PICTURE, blur=[*BLUR, "percent:0,0,10,10"])
    whole = await client.images.upload(PICTURE)
    assert len({first.image_id, second.image_id, whole.image_id}) == 3
    assert len(stored_files(settings)) == 3
    assert PICTURE in stored_files(settings)  # of the third only


async def test_blur_is_refused_where_it_would_blur_nothing(server, client):
    image = await client.images.upload(PICTURE)
    async with await server.client(Role.ADMIN) as admin:
        with pytest.raises(InvalidRequest, match="keep_metadata"):
            await admin.images.upload(PICTURE, blur=BLUR, keep_metadata=True)
    with pytest.raises(InvalidRequest, match="needs store"):
        await client.classify_image(PICTURE, blur=BLUR)
    with pytest.raises(InvalidRequest, match="image_id"):
        await client.classify_image(image_id=image.image_id, store=True, blur=BLUR)
    with pytest.raises(InvalidRequest, match="outside"):
        await client.images.upload(PICTURE, blur=["320,0,400,10"])
    with pytest.raises(InvalidRequest, match="left,top"):
        await client.classify_image(PICTURE, store=True, blur=["face"])
    with pytest.raises(InvalidRequest, match="left,top"):
        await client.batches.submit([("a.png", PICTURE)], blur=["face"])
    with pytest.raises(InvalidRequest, match="left,top"):
        await client.batches.submit([("a.png", PICTURE, ["face"])])
    with pytest.raises(InvalidRequest, match="at most 64"):
        await client.batches.submit([("a.png", PICTURE, BLUR * 60)], blur=BLUR * 5)
    for options, more in (({}, BLUR), ({"store": True}, ["face"])):
        (found,) = [r async for r in client.classify_stream([("a", PICTURE, more)], **options)]
        assert isinstance(found.error, InvalidRequest)
    with pytest.raises(TypeError, match="blur"):
        await client.images.upload(PICTURE, blur=BLUR[0])
    assert await count("images") == 1


def is_blurred(content, *rectangles):
    """Whether each part of an image has one colour."""
    parts = [pixels(content)[part].reshape(-1, 3) for part in rectangles]
    return all(len(np.unique(part, axis=0)) == 1 for part in parts)


async def test_a_stream_blurs_parts_of_all_images_and_of_each(client, settings):
    corner = np.s_[0:24, 0:32]
    sources = [("all.png", PICTURE), ("one.png", PICTURE, ["0,0,32,24"])]
    found = {
        r.key: r.classification
        async for r in client.classify_stream(sources, store=True, blur=BLUR)
    }
    contents = {
        name: await client.images.content(answer.image_id, image_format="png")
        for name, answer in found.items()
    }
    assert is_blurred(contents["all.png"], INSIDE)
    assert not is_blurred(contents["all.png"], corner)
    assert is_blurred(contents["one.png"], INSIDE, corner)
    assert PICTURE not in stored_files(settings)
    assert await count("image_embeddings") == 0


async def test_a_batch_keeps_no_whole_copy_of_what_is_blurred(client, settings):
    sources = [("a.png", PICTURE), ("b.png", PICTURE, ["0,0,32,24"])]
    await client.batches.submit(sources, blur=BLUR)
    kept = stored_files(settings)
    assert len(kept) == 2
    assert all(is_blurred(content, INSIDE) for content in kept)
    outside = [("c.png", PICTURE, ["2000,0,2010,10"]), ("d.png", b"no image", BLUR)]
    failed = await client.batches.submit(outside)
    assert failed.failed_count == 2
    results = [r async for r in client.batches.results(failed.batch_id)]
    assert ["outside" in str(r.error) for r in results] == [True, False]
    assert len(stored_files(settings)) == 2
    # What a worker fetches from a URI is blurred when the server keeps it.
    await client.batches.submit_uris(["https://example.com/a.png"], store=True, blur=BLUR)
    await client.batches.submit_uris(["https://example.com/b.png"], blur=BLUR)
    async with connected() as connection:
        rows = await connection.fetch("SELECT filename, blur FROM batch_items WHERE blur <> '{}'")
    assert [(row["filename"], row["blur"]) for row in rows] == [("a.png", BLUR)]
