"""Search of stored images, and what changes what is found."""

import asyncio
from datetime import timedelta

import pytest
from google.api.httpbody_pb2 import HttpBody
from image_categorizer import ImageNotFound, InvalidRequest
from image_categorizer.v1 import image_pb2
from image_categorizer_server import clock
from image_categorizer_server.db.database import connected
from image_categorizer_server.domain.classification import (
    BatchCloseReason,
    Category,
    Classification,
    ModelRef,
    Prediction,
    Timing,
)
from image_categorizer_server.domain.image import ImageFilter
from image_categorizer_server.settings.privacy import PrivacySettings

from tests.support.pictures import jpeg

pytestmark = pytest.mark.usefixtures("every_tenant")
TIMING = Timing(0, 0, 0, 1, BatchCloseReason.IDLE)
ANCESTORS = {"tabby": ("cat", "animal"), "beagle": ("dog", "animal"), "rose": ("plant",)}


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"privacy": PrivacySettings(secret="s" * 32)})


@pytest.fixture
def images(server):
    return server.backend.images


def found(category, confidence, model="m"):
    best = Prediction(Category(category, "", ANCESTORS[category]), confidence, ())
    others = Prediction(Category("other", "", ()), confidence / 2, ())
    return Classification([best, others], ModelRef(model, 1, "sha256:0"), TIMING)


async def keep(images, image, answer):
    """Keeps an answer with an image, as if its bytes had been classified."""
    stored = await images.get("default", image.image_id)
    return await images.keep_result(stored, answer, stored.sha256)


@pytest.fixture
async def names(client, images):
    """Returns the file names of the images that pass filters, as the client finds them."""
    given = {
        "IMG_2024_Beach.jpg": (["sea", "red"], "", ("tabby", 0.9)),
        "img_2025_beach.jpg": (["sea"], "ann", ("beagle", 0.6)),
        "Größe.png": (["red"], "ann", ("rose", 0.3)),
        "plain.jpg": ([], "", None),
    }
    for seed, (name, (tags, subject_id, result)) in enumerate(given.items()):
        image = await client.images.upload(
            jpeg(16, 16, seed), filename=f"dir/{name}", tags=tags, subject_id=subject_id
        )
        if result:
            await keep(images, image, found(*result))

    async def search(**filters):
        return [image.filename async for image in client.images.list(**filters)]

    return search


BEACH, OTHER_BEACH, ROSE = "IMG_2024_Beach.jpg", "img_2025_beach.jpg", "Größe.png"


async def test_each_filter_finds_its_images_and_all_filters_hold_together(names):
    for filters, expected in [
        ({}, ["plain.jpg", ROSE, OTHER_BEACH, BEACH]),
        ({"category": "tabby"}, [BEACH]),
        ({"category": "animal"}, [OTHER_BEACH, BEACH]),
        ({"category": "other"}, []),  # not the best prediction
        ({"min_confidence": 0.6}, [OTHER_BEACH, BEACH]),
        ({"max_confidence": 0.6}, [ROSE, OTHER_BEACH]),
        ({"min_confidence": 0.0}, [ROSE, OTHER_BEACH, BEACH]),
        ({"category": "animal", "max_confidence": 0.7}, [OTHER_BEACH]),
        ({"tags": ["red"]}, [ROSE, BEACH]),
        ({"tags": ["red", "sea"]}, [BEACH]),
        ({"model": "m"}, [ROSE, OTHER_BEACH, BEACH]),
        ({"model": "n"}, []),
        ({"filename": "beach"}, [OTHER_BEACH, BEACH]),
        ({"filename": "BEACH 2024"}, [BEACH]),
        ({"filename": "grösse"}, [ROSE]),
        ({"filename": "bea"}, []),
        ({"subject_id": "ann"}, [ROSE, OTHER_BEACH]),
        ({"subject_id": "ann", "category": "dog", "tags": ["sea"]}, [OTHER_BEACH]),
        ({"start_time": clock.now() + timedelta(hours=1)}, []),
        ({"end_time": clock.now() - timedelta(hours=1)}, []),
        ({"end_time": clock.now() + timedelta(hours=1), "tags": ["red"]}, [ROSE, BEACH]),
    ]:
        assert await names(**filters) == expected, filters


async def test_pages_of_a_search_follow_one_another(names, images):
    read, token = [], ""
    for _ in range(3):
        page = await images.list_page("default", ImageFilter(model="m"), 1, token)
        read += [image.filename for image in page.items]
        token = page.next_page_token
    assert read == [ROSE, OTHER_BEACH, BEACH]
    assert not token


async def test_a_time_splits_the_list(client, names):
    times = {image.filename: image.create_time async for image in client.images.list()}
    assert await names(start_time=times[ROSE]) == ["plain.jpg", ROSE]
    assert await names(end_time=times[ROSE]) == [OTHER_BEACH, BEACH]
    assert await names(end_time=times[ROSE], tags=["sea"], start_time=times[OTHER_BEACH]) == [
        OTHER_BEACH
    ]


async def test_what_changes_is_found_anew_and_what_is_gone_is_not(client, images, names):
    (beach,) = [i async for i in client.images.list(category="tabby")]
    changed = await client.images.update(beach.image_id, filename="a/Lake.jpg", tags=["b", "a"])
    assert (changed.filename, changed.tags) == ("Lake.jpg", ("a", "b"))
    assert changed.result == beach.result
    assert await names(filename="beach") == [OTHER_BEACH]
    assert await names(filename="lake", tags=["a"]) == ["Lake.jpg"]
    assert await names(tags=["red"]) == [ROSE]
    await asyncio.gather(*(keep(images, beach, found("rose", 0.1)) for _ in range(8)))
    await keep(images, beach, found("beagle", 0.2, "n"))
    assert await names(category="tabby") == await names(category="cat") == []
    assert await names(category="plant") == [ROSE]
    assert await names(category="dog") == [OTHER_BEACH, "Lake.jpg"]
    assert await names(model="n", max_confidence=0.25) == ["Lake.jpg"]
    assert (await client.images.update(beach.image_id, tags=[])).tags == ()
    assert await names(tags=["a"]) == []
    assert (await client.images.update(beach.image_id)).filename == "Lake.jpg"
    for image_id in [image.image_id async for image in client.images.list()]:
        await client.images.delete(image_id)
    async with connected() as connection:
        assert await connection.fetchval("SELECT count(*) FROM image_terms") == 0


async def test_wrong_filters_and_changes_are_named(client, names):
    for filters, message in [
        ({"min_confidence": 1.5}, "min_confidence: must be in"),
        ({"min_confidence": 0.6, "max_confidence": 0.5}, "must not be above max_confidence"),
        ({"tags": [f"t{n}" for n in range(9)]}, "tags: must have at most 8"),
        ({"filename": "--"}, "filename: must have 1 to 8 words"),
        ({"category": "a\x00"}, "category"),
        ({"model": "m" * 257}, "model"),
    ]:
        with pytest.raises(InvalidRequest, match=message):
            await names(**filters)
    with pytest.raises(TypeError, match="colour"):
        await names(colour="red")
    with pytest.raises(TypeError, match="time zone"):
        await names(start_time=clock.now().replace(tzinfo=None))
    (image,) = [i async for i in client.images.list(category="tabby")]
    with pytest.raises(InvalidRequest, match="filename.*tags"):
        await client.images.update(image.image_id, filename="\n", tags=[""])
    with pytest.raises(ImageNotFound):
        await client.images.update("i-none", filename="a")


async def test_a_body_is_stored_with_the_fields_of_the_query(server, client):
    stub = client._connection.stubs.images
    headers = await client._connection.headers()
    request = image_pb2.UploadImageBodyRequest(
        body=HttpBody(content_type="image/jpeg", data=jpeg(16, 16)), filename="x/a.jpg", tags=["b"]
    )
    stored = await stub.UploadImageBody(request, metadata=headers)
    assert (stored.filename, list(stored.tags), stored.format) == ("a.jpg", ["b"], "JPEG")
