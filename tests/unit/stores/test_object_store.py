"""Images on disk and in memory."""

import os
from datetime import UTC, datetime, timedelta

import pytest
from image_categorizer_server.errors import FailedPrecondition, OperatorError
from image_categorizer_server.settings import Settings
from image_categorizer_server.stores.object_store import MemoryStorage, open_storage
from image_categorizer_server.stores.sealing import OVERHEAD_BYTES, Sealer

from tests.support.sealing import KeysInMemory
from tests.support.storage_contract import StorageContract, store_image


class TestMemory(StorageContract):
    @pytest.fixture
    def storage(self):
        return MemoryStorage()


class TestDisk(StorageContract):
    @pytest.fixture
    async def storage(self, tmp_path):
        async with open_storage(Settings(storage={"path": tmp_path / "images"})) as storage:
            yield storage

    async def test_an_image_that_is_stored_again_counts_as_new(self, storage, tmp_path):
        stored = await store_image(storage, "default", b"picture")
        long_ago = (datetime.now(UTC) - timedelta(days=9)).timestamp()
        os.utime(tmp_path / "images" / stored.key, (long_ago, long_ago))
        await store_image(storage, "default", b"picture")
        found = [found async for found in storage.list("default")]
        assert datetime.now(UTC) - found[0].modify_time < timedelta(minutes=1)


class TestSealed(StorageContract):
    """Encrypted, the storage keeps the same contract, but for the sizes of a listing."""

    @pytest.fixture
    def storage(self):
        return MemoryStorage(sealer=Sealer(KeysInMemory()))

    async def test_objects_are_listed_with_size_and_time(self, storage):
        await storage.put("t/images/a", b"x")
        (listed,) = [found async for found in storage.list("t")]
        assert listed.size_bytes == 1 + OVERHEAD_BYTES


@pytest.mark.parametrize("kind", ["disk", "memory"])
async def test_only_cloud_stores_sign_urls(kind, tmp_path):
    settings = Settings(storage={"path": tmp_path})
    async with open_storage(settings) as disk:
        storage = MemoryStorage() if kind == "memory" else disk
        with pytest.raises(FailedPrecondition, match="signs no URLs"):
            await storage.presign_get("a", 60)
        with pytest.raises(FailedPrecondition, match="signs no URLs"):
            await storage.presign_put("a", 60)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"CLOUD_PROVIDER": "aws"}, "STORAGE_BUCKET"),
        ({"CLOUD_PROVIDER": "azure", "STORAGE_BUCKET": "c"}, "Account must be specified"),
        ({"storage": {"path": "/dev/null/images"}}, "CATEGORIZER_STORAGE__PATH"),
    ],
)
async def test_a_missing_setting_is_named_at_the_start(settings, text, monkeypatch):
    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)
    with pytest.raises(OperatorError, match=text):
        async with open_storage(Settings(**settings)):
            pass
