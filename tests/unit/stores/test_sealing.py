"""Encrypted objects: whoever has the store can neither read, change, move nor replace them."""

import hashlib
import os

import pytest
from image_categorizer_server.errors import FailedPrecondition, NotFound
from image_categorizer_server.settings.storage import StorageSettings
from image_categorizer_server.stores.buckets import Store
from image_categorizer_server.stores.image_key import image_key
from image_categorizer_server.stores.object_store import MemoryStorage, Storage
from image_categorizer_server.stores.sealing import INLINE_BYTES, MAGIC, OVERHEAD_BYTES, Sealer
from obstore.store import MemoryStore

from tests.support.sealing import KeysInMemory

PICTURE = os.urandom(10_000)


@pytest.fixture
def keys():
    return KeysInMemory()


@pytest.fixture
def store() -> Store:
    return MemoryStore()


@pytest.fixture
def sealed(store, keys):
    return Storage(store, StorageSettings(), sealer=Sealer(keys))


@pytest.fixture
def plain(store):
    """The same store, as somebody sees it who has no keys."""
    return Storage(store, StorageSettings())


def key_of(content, tenant="default"):
    return image_key(tenant, hashlib.sha256(content).hexdigest())


async def raw(store, key):
    return bytes(await (await store.get_async(key)).bytes_async())


@pytest.mark.parametrize("size", [0, 1, 10_000, INLINE_BYTES, INLINE_BYTES + 1, 3_000_000])
async def test_what_is_stored_does_not_show_the_content(sealed, store, size):
    content = bytes(size)
    await sealed.put("t/a", content)
    stored = await raw(store, "t/a")
    assert stored.startswith(MAGIC)
    assert len(stored) == size + OVERHEAD_BYTES
    assert bytes(16) not in stored
    assert await sealed.get("t/a") == content
    assert b"".join([chunk async for chunk in sealed.stream("t/a")]) == content


async def test_the_same_picture_is_encrypted_differently_each_time(sealed, store):
    seen = set()
    for _ in range(3):
        await sealed.put("t/a", PICTURE)
        seen.add(await raw(store, "t/a"))
    assert len(seen) == 3


@pytest.mark.parametrize("at", [0, 8, 23, 24, 35, 36, 5000, -1])
async def test_an_object_of_which_a_byte_has_changed_is_lost(sealed, store, at):
    await sealed.put("t/a", PICTURE)
    damaged = bytearray(await raw(store, "t/a"))
    damaged[at] ^= 1
    await store.put_async("t/a", bytes(damaged))
    with pytest.raises(NotFound):
        await sealed.get("t/a")


@pytest.mark.parametrize("size", [8, 24, 36, 51])
async def test_a_truncated_object_is_lost(sealed, store, size):
    await sealed.put("t/a", PICTURE)
    await store.put_async("t/a", (await raw(store, "t/a"))[:size])
    with pytest.raises(NotFound):
        await sealed.get("t/a")


@pytest.mark.parametrize("to", ["t/b", "other/a"])
async def test_an_object_cannot_stand_in_another_s_place(sealed, store, to):
    await sealed.put("t/a", PICTURE)
    await sealed.put(to, b"another")
    await store.put_async(to, await raw(store, "t/a"))
    with pytest.raises(NotFound):
        await sealed.get(to)


async def test_what_was_stored_before_is_read_and_nothing_is_passed_off_as_it(
    sealed, plain, store, caplog
):
    key = key_of(PICTURE)
    await plain.put(key, PICTURE)
    assert await sealed.get(key) == PICTURE
    await plain.put(key, b"a forged picture")
    with pytest.raises(NotFound):
        await sealed.get(key)
    assert "not what its key says" in caplog.text


async def test_without_the_keys_an_encrypted_object_is_lost_and_the_log_says_why(
    sealed, plain, caplog
):
    await sealed.put("t/a", PICTURE)
    with pytest.raises(NotFound):
        await plain.get("t/a")
    assert "CATEGORIZER_ENCRYPTION__" in caplog.text


async def test_an_erased_key_erases_all_of_its_tenant_and_nothing_else(sealed, keys):
    await sealed.put("t/a", PICTURE)
    await sealed.put("other/a", PICTURE)
    keys.erase("t")
    with pytest.raises(NotFound):
        await sealed.get("t/a")
    assert await sealed.get("other/a") == PICTURE
    await sealed.put("t/a", b"new")
    assert await sealed.get("t/a") == b"new"


async def test_a_content_that_looks_encrypted_is_encrypted_like_any_other(sealed):
    await sealed.put("t/a", MAGIC + bytes(100))
    assert await sealed.get("t/a") == MAGIC + bytes(100)


async def test_no_url_is_signed_for_what_only_the_server_can_read():
    storage = MemoryStorage(sealer=Sealer(KeysInMemory()))
    with pytest.raises(FailedPrecondition):
        await storage.presign_get("t/a", 60)


async def test_what_belongs_to_no_tenant_is_stored_as_it_is():
    sealer = Sealer(KeysInMemory())
    assert await sealer.seal("_audit/acme/1.json", b"{}") == b"{}"
    assert await sealer.open("_audit/acme/1.json", b"{}") == b"{}"
