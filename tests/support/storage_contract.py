"""Tests that every storage passes. A test class for each kind inherits them."""

import asyncio
import hashlib
import os

import pytest
from image_categorizer_server.errors import ImageTooLarge, NotFound
from image_categorizer_server.services.upload import StoredImage, read_image
from image_categorizer_server.stores.image_key import image_key
from image_categorizer_server.stores.object_store import Storage

PICTURE = os.urandom(60_000)


async def in_chunks(content: bytes, size: int = 16_384):
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def keys(storage: Storage, prefix: str = "") -> list[str]:
    return sorted([found.key async for found in storage.list(prefix)])


async def store_image(
    storage: Storage, tenant_id: str, content: bytes, max_bytes: int = 10**6
) -> StoredImage:
    image = await read_image(tenant_id, in_chunks(content), max_bytes)
    await storage.put(image.key, image.content)
    await storage.flush()
    return image


class StorageContract:
    """Needs a fixture `storage` that is empty."""

    async def test_an_image_comes_back_by_its_tenant_and_hash(self, storage):
        stored = await store_image(storage, "default", PICTURE, 60_000)
        sha256 = hashlib.sha256(PICTURE).hexdigest()
        assert stored.key == f"default/images/{sha256[:2]}/{sha256}" == image_key("default", sha256)
        assert (stored.sha256, len(stored.content)) == (sha256, 60_000)
        assert await storage.get(stored.key) == PICTURE
        assert b"".join([chunk async for chunk in storage.stream(stored.key)]) == PICTURE

    async def test_what_is_created_is_never_replaced(self, storage):
        assert await storage.create("a/b", b"first")
        assert not await storage.create("a/b", b"second")
        assert await storage.get("a/b") == b"first"

    async def test_the_same_image_is_stored_once_for_each_tenant(self, storage):
        for tenant in ("default", "default", "other"):
            await store_image(storage, tenant, PICTURE)
        assert len(await keys(storage)) == 2
        assert len(await keys(storage, "other/images")) == 1
        assert await keys(storage, "oth") == []

    async def test_an_image_that_is_too_large_is_not_stored(self, storage):
        with pytest.raises(ImageTooLarge, match="59999"):
            await store_image(storage, "default", PICTURE, 59_999)
        assert await keys(storage) == []

    async def test_an_object_over_the_limit_is_not_read(self, storage):
        await storage.put("a/b", PICTURE)
        assert await storage.get("a/b", 60_000) == PICTURE
        with pytest.raises(ImageTooLarge):
            await storage.get("a/b", 59_999)

    async def test_a_missing_object_is_not_found(self, storage):
        with pytest.raises(NotFound):
            await storage.get("a/nothing")
        with pytest.raises(NotFound):
            await anext(storage.stream("a/nothing"))
        assert not await storage.exists("a/nothing")
        await storage.check()

    async def test_a_large_object_comes_back_whole(self, storage):
        content = os.urandom(2**20) * 12
        await storage.put("big", content)
        read = hashlib.sha256()
        async for chunk in storage.stream("big"):
            read.update(chunk)
        assert read.hexdigest() == hashlib.sha256(content).hexdigest()

    async def test_objects_are_listed_with_size_and_time(self, storage):
        await asyncio.gather(*(storage.put(f"t/images/{n:02}", b"x" * n) for n in range(1, 31)))
        listed = sorted([found async for found in storage.list("t")], key=lambda found: found.key)
        assert [found.size_bytes for found in listed] == list(range(1, 31))
        assert all(found.modify_time.tzinfo for found in listed)

    async def test_deleting_ignores_missing_objects(self, storage):
        names = [f"t/images/{n}" for n in range(7)]
        for name in names[:5]:
            await storage.put(name, b"x")
        await storage.delete([names[6], *names[1:6]])
        assert await keys(storage) == names[:1]
        assert await storage.exists(names[0])
        await storage.delete(names)
        await storage.delete(names)
        assert await keys(storage) == []

    async def test_a_key_cannot_name_a_file_outside_the_store(self, storage):
        with pytest.raises(ValueError, match="tenant"):
            await store_image(storage, "../other", b"x")
        with pytest.raises(ValueError, match=r"\.\."):
            await storage.get("default/../../etc/passwd")


class SigningContract(StorageContract):
    """For stores that sign URLs. Needs `http`, which sends a request and returns (status, body)."""

    async def test_a_signed_request_needs_no_credentials(self, storage, http):
        await storage.put("t/images/a", PICTURE)
        get = await storage.presign_get("t/images/a", 60)
        assert await http(get) == (200, PICTURE)
        put = await storage.presign_put("t/images/b", 60)
        status, _ = await http(put, PICTURE)
        assert status in (200, 201)
        assert await storage.get("t/images/b") == PICTURE
