"""Uploads of one image in parts: they resume, become a stored image, and leave nothing."""

import asyncio
import hashlib
from datetime import timedelta

import pytest
from image_categorizer import (
    AsyncImageCategorizationClient,
    ImageTooLarge,
    InvalidRequest,
    QuotaExceeded,
    SubjectErased,
    UndecodableImage,
    UploadIncomplete,
    UploadNotFound,
    UploadOffsetWrong,
)
from image_categorizer_server import clock
from image_categorizer_server.db import image_upload as rows
from image_categorizer_server.db.database import connected
from image_categorizer_server.domain.access import Role
from image_categorizer_server.domain.image_upload import UploadPart
from image_categorizer_server.services.image_upload import remove_expired_uploads
from image_categorizer_server.settings.image_upload import ImageUploadSettings
from image_categorizer_server.settings.privacy import PrivacySettings
from image_categorizer_server.settings.storage import StorageSettings
from image_categorizer_server.stores.object_store import SignedRequest, open_storage

from tests.integration.conftest import running_server
from tests.support.object_servers import BUCKET, empty_s3_bucket, running_s3, send
from tests.support.pictures import jpeg

PICTURE = jpeg(64, 48)
SIZE = len(PICTURE)
SHA256 = hashlib.sha256(PICTURE).hexdigest()
pytestmark = pytest.mark.usefixtures("every_tenant")


@pytest.fixture
def settings(settings):
    own = {
        "privacy": PrivacySettings(secret="s" * 32),
        "uploads": ImageUploadSettings(max_unfinished=2),
    }
    return settings.model_copy(update=own)


async def count(table):
    async with connected() as connection:
        return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))


def files(settings):
    folder = settings.storage.path
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


async def remove_objects(server):
    while await server.backend.batches.remove_images(10):
        pass


async def test_parts_become_a_stored_image_and_are_removed(client, server, settings):
    upload = await client.uploads.create(SIZE, sha256=SHA256, filename="/a/rose.jpg", tags=["red"])
    assert (upload.offset, upload.image_id, upload.put_url) == (0, "", "")
    for start in range(0, 300, 100):
        upload = await client.uploads.append(upload.upload_id, start, PICTURE[start : start + 100])
    assert upload.offset == 300
    assert await client.uploads.get(upload.upload_id) == upload
    assert len(files(settings)) == 3
    done = await client.uploads.append(upload.upload_id, 300, PICTURE[300:])
    assert done.offset == SIZE
    image = await client.images.get(done.image_id)
    assert (image.filename, image.tags, image.sha256) == ("rose.jpg", ("red",), SHA256)
    assert await server.backend.images.content("default", image.image_id) == PICTURE
    assert await client.uploads.get(upload.upload_id) == done
    assert (await client.classify_image(image_id=image.image_id)).predictions
    await remove_objects(server)
    assert len(files(settings)) == 1
    assert await count("image_upload_parts") == 0


async def test_the_same_bytes_resume_or_are_there_already(client):
    first = await client.uploads.create(SIZE, sha256=SHA256)
    await client.uploads.append(first.upload_id, 0, PICTURE[:100])
    again = await client.uploads.create(SIZE, sha256=SHA256.upper())
    assert (again.upload_id, again.offset) == (first.upload_id, 100)
    other = await client.uploads.create(SIZE, sha256=SHA256, subject_id="ann")
    assert (other.offset, other.upload_id == first.upload_id) == (0, False)
    done = await client.uploads.append(first.upload_id, 100, PICTURE[100:])
    there = await client.uploads.create(SIZE, sha256=SHA256)
    assert (there.image_id, there.offset) == (done.image_id, SIZE)


async def test_a_part_at_another_byte_is_refused(client):
    upload = await client.uploads.create(SIZE)
    for offset in (1, SIZE - 1):
        with pytest.raises(UploadOffsetWrong, match="at byte 0"):
            await client.uploads.append(upload.upload_id, offset, PICTURE[offset : offset + 1])
    parts = (client.uploads.append(upload.upload_id, 0, PICTURE[:n]) for n in (10, 20, 30))
    found = await asyncio.gather(*parts, return_exceptions=True)
    counted = [one for one in found if not isinstance(one, Exception)]
    assert len(counted) == 1
    assert all(isinstance(e, UploadOffsetWrong) for e in found if isinstance(e, Exception))
    offset = counted[0].offset
    assert (await client.uploads.get(upload.upload_id)).offset == offset
    done = await client.uploads.append(upload.upload_id, offset, PICTURE[offset:])
    with pytest.raises(UploadOffsetWrong, match="complete"):
        await client.uploads.append(upload.upload_id, offset, PICTURE[offset:])
    assert (await client.images.get(done.image_id)).sha256 == SHA256


async def test_what_was_not_announced_becomes_no_image(client):
    upload = await client.uploads.create(SIZE, sha256="0" * 64)
    for _ in range(2):  # a refused last part may be sent again
        with pytest.raises(InvalidRequest, match="sha256"):
            await client.uploads.append(upload.upload_id, 0, PICTURE)
    with pytest.raises(InvalidRequest, match="body: ends at byte"):
        await client.uploads.append(upload.upload_id, 0, PICTURE + b"x")
    with pytest.raises(InvalidRequest, match="at least one byte"):
        await client.uploads.append(upload.upload_id, 0, b"")
    damaged = await client.uploads.create(100)
    with pytest.raises(UndecodableImage):
        await client.uploads.append(damaged.upload_id, 0, PICTURE[:100])
    with pytest.raises(UploadIncomplete, match="0 of 100 bytes"):
        await client.uploads.complete(damaged.upload_id)
    assert await count("images") == 0


async def test_an_upload_is_bounded(client, settings):
    with pytest.raises(ImageTooLarge):
        await client.uploads.create(settings.max_image_bytes + 1)
    with pytest.raises(InvalidRequest, match="size_bytes.*sha256"):
        await client.uploads.create(0, sha256="0")
    uploads = [await client.uploads.create(SIZE) for _ in range(2)]
    with pytest.raises(QuotaExceeded, match="2 uploads are unfinished"):
        await client.uploads.create(SIZE)
    await client.uploads.cancel(uploads[0].upload_id)
    upload = await client.uploads.create(300)
    for offset in range(200):
        await client.uploads.append(upload.upload_id, offset, b"x")
    with pytest.raises(InvalidRequest, match="at most 200"):
        await client.uploads.append(upload.upload_id, 200, b"x")


@pytest.mark.usefixtures("restored_clock")
async def test_cancelled_and_expired_uploads_leave_nothing(client, server, settings):
    ids = []
    for subject in ("", "ann"):
        upload = await client.uploads.create(SIZE, subject_id=subject)
        await client.uploads.append(upload.upload_id, 0, PICTURE[:100])
        ids.append(upload.upload_id)
    await client.uploads.cancel(ids[0])
    with pytest.raises(UploadNotFound):
        await client.uploads.get(ids[0])
    await remove_objects(server)
    assert len(files(settings)) == 1
    assert await remove_expired_uploads() == 0
    clock.shift(settings.uploads.lifetime_s + 1)
    with pytest.raises(UploadNotFound):
        await client.uploads.append(ids[1], 100, PICTURE[100:])
    assert await remove_expired_uploads() == 1
    await remove_objects(server)
    assert files(settings) == set()
    assert await count("image_uploads") == 0


async def test_an_erased_subject_has_no_uploads(client, server, settings):
    upload = await client.uploads.create(SIZE, subject_id="ann")
    await client.uploads.append(upload.upload_id, 0, PICTURE[:100])
    await server.backend.erasures.erase("default", "ann")
    with pytest.raises(SubjectErased):
        await client.uploads.append(upload.upload_id, 100, PICTURE[100:200])
    with pytest.raises(SubjectErased):
        await client.uploads.create(SIZE, subject_id="ann")
    for _ in range(3):
        await server.backend.erasures.sweep()
    with pytest.raises(UploadNotFound):
        await client.uploads.get(upload.upload_id)
    assert not [name for name in files(settings) if "/uploads/" in name]


@pytest.mark.usefixtures("restored_clock")
async def test_an_erasure_waits_for_a_part_that_is_being_stored(client, server):
    created = await client.uploads.create(SIZE, subject_id="ann")
    upload = await server.backend.uploads.get("default", created.upload_id)
    part = UploadPart("default/subjects/x/uploads/y/z", 0, 10)
    assert await rows.begin_part(upload, part, clock.now() + timedelta(seconds=60))
    subject = "default", upload.subject_key
    assert await rows.erase(*subject, clock.now()) == (0, False)
    clock.shift(61.0)
    assert await rows.erase(*subject, clock.now()) == (1, True)
    assert await rows.end_part(upload, part) is None


async def test_nobody_sees_the_uploads_of_another_tenant(client, server):
    mine = await client.uploads.create(SIZE, sha256=SHA256)
    stranger = await server.key(Role.ADMIN, "t2")
    async with AsyncImageCategorizationClient(stranger, server.address) as other:
        theirs = await other.uploads.create(SIZE, sha256=SHA256)
        assert theirs.upload_id != mine.upload_id
        for call in (other.uploads.get, other.uploads.complete, other.uploads.cancel):
            with pytest.raises(UploadNotFound):
                await call(mine.upload_id)
        with pytest.raises(UploadNotFound):
            await other.uploads.append(mine.upload_id, 0, PICTURE)


async def test_a_file_resumes_where_the_last_attempt_stopped(client, server, settings, tmp_path):
    path = tmp_path / "rose.jpg"
    path.write_bytes(PICTURE)
    begun = await client.uploads.create(SIZE, sha256=SHA256)
    await client.uploads.append(begun.upload_id, 0, PICTURE[:200])
    image = await client.images.upload_file(path, part_bytes=100)
    assert (image.sha256, image.filename) == (SHA256, "")  # the words of the first attempt
    parts = {name for name in files(settings) if begun.upload_id in name}
    assert len(parts) == 1 + (SIZE - 201) // 100
    assert await client.images.upload_file(path) == image


async def test_a_client_puts_an_image_into_the_bucket(settings, monkeypatch):
    for name, value in [
        ("ACCESS_KEY_ID", "k"),
        ("SECRET_ACCESS_KEY", "s"),
        ("REGION", "us-east-1"),
    ]:
        monkeypatch.setenv(f"AWS_{name}", value)
    async with running_s3() as url:
        await empty_s3_bucket(url)
        storage = StorageSettings(endpoint=url, allow_http=True)
        own = {"cloud_provider": "aws", "storage_bucket": BUCKET, "storage": storage}
        changed = settings.model_copy(update=own)
        async with (
            open_storage(changed) as bucket,
            running_server(changed) as server,
            await server.client() as client,
        ):
            upload = await client.uploads.create(SIZE, filename="rose.jpg")
            put = SignedRequest("PUT", upload.put_url, upload.put_headers)
            with pytest.raises(UploadIncomplete, match=f"0 of {SIZE} bytes"):
                await client.uploads.complete(upload.upload_id)
            for content, error in [(PICTURE[:9], UploadIncomplete), (PICTURE * 2, ImageTooLarge)]:
                assert (await send(put, content))[0] == 200
                with pytest.raises(error):
                    await client.uploads.complete(upload.upload_id)
            assert (await send(put, PICTURE))[0] == 200
            done = await client.uploads.complete(upload.upload_id)
            assert (await client.images.get(done.image_id)).filename == "rose.jpg"
            assert await client.uploads.complete(upload.upload_id) == done
            assert len([found async for found in bucket.list("default")]) == 1
            # What would arrive after an erasure could not be found.
            assert not (await client.uploads.create(SIZE, subject_id="ann")).put_url
            # What is put again goes once the upload is gone.
            assert (await send(put, PICTURE))[0] == 200
            await client.uploads.cancel(upload.upload_id)
            await remove_objects(server)
            assert len([found async for found in bucket.list("default")]) == 1
