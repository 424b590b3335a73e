"""Images of an upload: read whole, stored concurrently, failures reported to the caller."""

import asyncio
import hashlib

import pytest
from image_categorizer_server.errors import ImageTooLarge, UndecodableImage
from image_categorizer_server.services.upload import ConcurrentUploads, StoredImage, read_image
from image_categorizer_server.stores.object_store import MemoryStorage


async def pieces(*contents):
    for content in contents:
        yield content


def image(number, size=10):
    return StoredImage(f"t1/images/{number}", "", bytes(size))


async def test_an_image_is_named_by_its_content():
    read = await read_image("t1", pieces(b"ab", b"", b"c"), 3)
    sha256 = hashlib.sha256(b"abc").hexdigest()
    assert (read.content, read.sha256) == (b"abc", sha256)
    assert read.key.startswith("t1/images/")
    assert read.key.endswith(sha256)


@pytest.mark.parametrize("contents", [(), (b"",), (b"", b"")])
async def test_an_empty_image_is_refused(contents):
    with pytest.raises(UndecodableImage, match="empty"):
        await read_image("t1", pieces(*contents), 10)


async def test_too_large_an_image_is_not_read_to_its_end():
    source = pieces(b"1234", b"5678", b"9")
    with pytest.raises(ImageTooLarge):
        await read_image("t1", source, 7)
    assert await anext(source) == b"9"


class Gate(MemoryStorage):
    """Stores nothing before it is opened."""

    def __init__(self):
        super().__init__()
        self.opened = asyncio.Event()
        self.waiting = 0

    async def put(self, key, content):
        self.waiting += 1
        await self.opened.wait()
        await super().put(key, content)


async def test_images_wait_once_the_limits_are_reached():
    storage = Gate()
    uploads = ConcurrentUploads(storage, max_count=3, max_bytes=25)
    await uploads.put(image(0))
    await uploads.put(image(1))
    third = asyncio.create_task(uploads.put(image(2)))  # 30 bytes
    for _ in range(5):
        await asyncio.sleep(0)
    assert (third.done(), storage.waiting) == (False, 2)
    storage.opened.set()
    await third
    await uploads.finish()
    assert len([found async for found in storage.list()]) == 3


class Broken(MemoryStorage):
    """Fails with a bug of its own."""

    async def put(self, key, content):
        raise ZeroDivisionError


async def test_a_failure_reaches_the_caller():
    uploads = ConcurrentUploads(Broken(), max_count=3, max_bytes=100)
    await uploads.put(image(0))
    with pytest.raises(ZeroDivisionError):
        await uploads.finish()
    with pytest.raises(ZeroDivisionError):
        await uploads.put(image(1))
    await uploads.wait()
