"""The content of stored images: made anew, once, kept beside the image, and gone with it."""

import asyncio
import io
from dataclasses import replace

import pytest
from image_categorizer import (
    AsyncImageCategorizationClient,
    ImageNotFound,
    InvalidRequest,
    NotFound,
    RoleInsufficient,
)
from image_categorizer.v1 import image_pb2
from image_categorizer_server.db import image_rendition
from image_categorizer_server.db.database import connected
from image_categorizer_server.domain.access import Role
from image_categorizer_server.domain.key import KeySpec
from image_categorizer_server.domain.rendition import ContentWish
from image_categorizer_server.errors import InvalidRequest as Refused
from image_categorizer_server.errors import Overloaded
from image_categorizer_server.services.image_content import ImageContents
from image_categorizer_server.services.key import operator
from image_categorizer_server.settings.image import CdnSettings, ImageSettings
from image_categorizer_server.settings.privacy import PrivacySettings
from PIL import Image

from tests.support.pictures import encoded, jpeg, scene

CANARY = b"CANARY-7F3A"
pytestmark = pytest.mark.usefixtures("every_tenant")


@pytest.fixture
def settings(settings):
    cdn = CdnSettings(
        provider="cloud_cdn",
        base_url="https://img.example",
        key_id="k",
        key="nZtRohdNF9m3cKM24IcK4w==",
    )
    return settings.model_copy(update={"privacy": PrivacySettings(secret="s" * 32), "cdn": cdn})


def opened(content):
    return Image.open(io.BytesIO(content))


def files(settings):
    return [path for path in settings.storage.path.rglob("*") if path.is_file()]


async def remove_objects(server):
    while await server.backend.batches.remove_images(10):
        pass


class CountingRenderer:
    """Makes renditions with the server's renderer, and counts them."""

    def __init__(self, renderings):
        self.count = 0
        self._render = renderings.render
        self.renderings = replace(renderings, render=self)

    def __call__(self, content, rendition):
        self.count += 1
        return self._render(content, rendition)


@pytest.fixture
def renderer(server):
    return CountingRenderer(server.backend.contents._renderings)


@pytest.fixture
def contents(server, renderer):
    return contents_with(server, renderer, ImageSettings())


def contents_with(server, renderer, settings):
    own = server.backend.contents
    return ImageContents(own._images, own._storage, renderer.renderings, own._addresses, settings)


async def test_content_is_as_it_was_asked_for_or_the_field_is_named(
    client,
):
    image = await client.images.upload(jpeg(400, 300))
    for asked, size, kind in [
        ({}, (400, 300), "JPEG"),
        ({"width": 100, "image_format": "webp"}, (100, 75), "WEBP"),
        ({"height": 600, "fit": "contain", "image_format": "png"}, (800, 600), "PNG"),
        ({"width": 50, "height": 50, "fit": "cover", "quality": 30}, (50, 50), "JPEG"),
        ({"width": 40, "image_format": "avif"}, (40, 30), "AVIF"),
    ]:
        with opened(await client.images.content(image.image_id, **asked)) as shown:
            assert (shown.size, shown.format) == (size, kind)
    for field, asked in [
        ("width", {"width": 2049}),
        ("height", {"height": -1}),
        ("fit", {"width": 5, "fit": "cover"}),
        ("fit", {"fit": "stretch"}),
        ("format", {"image_format": "svg"}),
        ("quality", {"quality": 101}),
        ("quality", {"quality": 10, "image_format": "png"}),
    ]:
        with pytest.raises(InvalidRequest) as caught:
            await client.images.content(image.image_id, **asked)
        assert [name for name, _ in caught.value.violations] == [field]
    with pytest.raises(ImageNotFound):
        await client.images.content("i-unknown")


async def test_nothing_of_the_metadata_is_stored_or_served(client, server, settings):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, CANARY.decode()
    content = jpeg(400, 300, exif=exif.tobytes(), comment=CANARY) + CANARY
    image = await client.images.upload(content)
    assert (image.width_px, image.height_px, image.has_metadata) == (300, 400, False)
    answers = [
        await client.images.content(image.image_id, image_format=kind)
        for kind in ("jpeg", "png", "webp", "avif")
    ]
    answers += [await server.backend.images.content("default", image.image_id)]
    assert len(files(settings)) == 5
    answers += [path.read_bytes() for path in files(settings)]
    assert not [answer for answer in answers if CANARY in answer]
    for answer in answers:
        with opened(answer) as shown:
            assert shown.size == (300, 400)
            assert not shown.getexif()


async def test_an_admin_keeps_the_metadata_but_nobody_is_served_it(server, client):
    content = jpeg(400, 300, comment=CANARY)
    with pytest.raises(RoleInsufficient):
        await client.images.upload(content, keep_metadata=True)
    key = await server.backend.keys.create(operator(), KeySpec("admin", Role.ADMIN))
    async with AsyncImageCategorizationClient(key.secret, server.address) as admin:
        image = await admin.images.upload(content, keep_metadata=True)
    assert (image.has_metadata, image.content_url) == (True, "")
    assert await server.backend.images.content("default", image.image_id) == content
    assert CANARY not in await client.images.content(image.image_id)


async def test_facts_are_kept_with_the_image_which_has_an_address(client):
    image = await client.images.upload(encoded(scene(), "PNG"))
    facts = image.facts
    assert facts is not None
    assert len(facts.perceptual_hash) == 16
    assert 0.3 < facts.brightness < 0.7
    assert facts.sharpness > 10
    assert len(facts.dominant_colours) == 5
    found = await client.images.get(image.image_id)
    stored = f"https://img.example/default/images/{image.sha256[:2]}/{image.sha256}?Expires="
    assert found.content_url.startswith(stored)
    assert image.content_url.startswith(stored)
    assert [each.content_url async for each in client.images.list()] == [""]
    assert found.facts is not None
    assert found.facts.perceptual_hash == facts.perceptual_hash
    assert found.facts.dominant_colours == facts.dominant_colours
    async with connected() as connection:
        number = await connection.fetchval("SELECT perceptual_hash FROM images")
    assert f"{number % 2**64:016x}" == facts.perceptual_hash


async def test_many_first_calls_make_it_once_and_no_more_than_may_wait(
    client, server, contents, renderer
):
    image = await client.images.upload(jpeg(400, 300))

    async def read(wish):
        return await contents.read(await contents.plan("default", image.image_id, wish))

    wish = ContentWish(width_px=100)
    found = await asyncio.gather(*(read(wish) for _ in range(20)))
    assert len(set(found)) == 1
    assert renderer.count == 1
    assert await read(ContentWish(height_px=75)) == found[0]
    assert renderer.count == 1
    await read(ContentWish(width_px=101))
    assert renderer.count == 2
    contents = contents_with(server, renderer, ImageSettings(max_waiting=3))
    plans = [
        await contents.plan("default", image.image_id, ContentWish(width_px=width))
        for width in range(10, 20)
    ]
    found = await asyncio.gather(*map(contents.read, plans), return_exceptions=True)
    assert [type(each) for each in found].count(Overloaded) == 7
    assert len(await contents.read(plans[-1])) > 0


async def test_only_so_many_are_kept_and_none_is_too_large(client, server, renderer, settings):
    contents = contents_with(
        server, renderer, ImageSettings(max_renditions=2, max_content_bytes=10_000)
    )
    image = await client.images.upload(jpeg(400, 300))
    for width in (10, 11, 12, 12):
        planned = await contents.plan("default", image.image_id, ContentWish(width_px=width))
        assert await contents.read(planned)
    assert renderer.count == 4
    assert len(files(settings)) == 3
    png = await contents.plan("default", image.image_id, ContentWish(format="png"))
    with pytest.raises(Refused, match="for another format"):
        await contents.read(png)
    assert len(files(settings)) == 3


async def test_renditions_go_with_their_image(client, server, settings):
    one = await client.images.upload(jpeg(400, 300), subject_id="ann")
    twin = await client.images.upload(jpeg(400, 300) + b"more", subject_id="ann")
    assert one.image_id != twin.image_id
    await client.images.content(one.image_id, width=100)
    await client.images.content(twin.image_id, width=100)
    await client.images.content(one.image_id, width=50)
    assert len(files(settings)) == 3
    assert all("subjects" in str(path) for path in files(settings))
    await client.images.delete(one.image_id)
    await remove_objects(server)
    # The twin was shown what was made for the first, so it loses that, and gets it anew.
    assert len(files(settings)) == 1
    await client.images.content(twin.image_id, width=100)
    assert len(files(settings)) == 2
    await client.images.delete(twin.image_id)
    await remove_objects(server)
    assert files(settings) == []


async def test_an_image_that_is_deleted_meanwhile_leaves_no_rendition(client, server, settings):
    image = await client.images.upload(jpeg(400, 300))
    stored = await server.backend.images.get("default", image.image_id)
    key = f"{stored.object_key}-made"
    assert await image_rendition.begin("default", image.image_id, key, 9)
    await client.images.delete(image.image_id)
    await remove_objects(server)
    storage = server.backend.contents._storage
    await storage.put(key, b"made")
    await image_rendition.end("default", image.image_id, key)
    await remove_objects(server)
    assert files(settings) == []
    assert not await image_rendition.begin("default", image.image_id, key, 9)


async def test_lost_content_is_an_error_and_lost_renditions_are_made_anew(client, settings):
    image = await client.images.upload(jpeg(400, 300))
    first = await client.images.content(image.image_id, width=100)
    (rendition,) = [path for path in files(settings) if "-" in path.name]
    rendition.unlink()
    assert await client.images.content(image.image_id, width=100) == first
    for path in files(settings):
        path.unlink()
    with pytest.raises(NotFound):
        await client.images.content(image.image_id, width=100)


async def test_headers_tell_caches_what_they_need(client, server):
    image = await client.images.upload(jpeg(400, 300), filename='ro"se.jpg')
    stub = client._connection.stubs.images.GetImageContent
    request = image_pb2.GetImageContentRequest(image_id=image.image_id, width=100)

    async def call(*headers):
        sent = (*await client._connection.headers(), *headers)
        answer = stub(request, metadata=sent)
        return dict(await answer.initial_metadata()), await answer

    fields, body = await call()
    assert body.content_type == "image/jpeg"
    assert fields["cache-control"] == "private, max-age=86400, immutable"
    assert fields["content-disposition"].startswith('inline; filename="ro_se.jpeg"; filename*')
    seen, empty = await call(("if-none-match", fields["etag"]))
    assert (seen["x-http-status"], empty.data) == ("304", b"")
    part, some = await call(("range", "bytes=10-19"))
    assert some.data == body.data[10:20]
    assert part["content-range"] == f"bytes 10-19/{len(body.data)}"
    assert seen["etag"] == fields["etag"]
