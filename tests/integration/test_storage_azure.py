"""Images in Azure Blob Storage (the Azurite emulator)."""

import itertools

import pytest
from image_categorizer_server.settings import Settings
from image_categorizer_server.stores.object_store import open_storage

from tests.support.object_servers import (
    AZURE_ACCOUNT,
    AZURE_KEY,
    make_azure_container,
    running_azure,
    send,
)
from tests.support.storage_contract import SigningContract

numbers = itertools.count()


@pytest.fixture(scope="module")
async def azure(tmp_path_factory):
    async with running_azure(tmp_path_factory.mktemp("azurite")) as url:
        yield url


class TestAzure(SigningContract):
    @pytest.fixture
    async def storage(self, azure, monkeypatch):
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", AZURE_ACCOUNT)
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", AZURE_KEY)
        container = f"lab{next(numbers)}"
        await make_azure_container(azure, container)
        settings = Settings(
            CLOUD_PROVIDER="azure",
            STORAGE_BUCKET=container,
            storage={"endpoint": azure, "allow_http": True},
        )
        async with open_storage(settings) as storage:
            yield storage

    @pytest.fixture
    def http(self):
        return send
