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
    with pytest.raises(InvalidRequest, match="single images"):
        await client.batches.submit([("a.png", PICTURE)], store=True, blur=BLUR)
    with pytest.raises(InvalidRequest, match="single images"):
        _ = [found async for found in client.classify_stream([PICTURE], store=True, blur=BLUR)]
    with pytest.raises(TypeError, match="blur"):
        await client.images.upload(PICTURE, blur=BLUR[0])
    assert await count("images") == 1
