"""Images in Google Cloud Storage.

obstore uses its XML API, which no emulator on PyPI offers.  moto's S3 server accepts it, given a
header that looks like an AWS signature.  So everything but signing is tested here; a signed URL is
created but not used.
"""

import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from image_categorizer_server.settings import Settings
from image_categorizer_server.stores.object_store import Storage, open_storage
from obstore.store import GCSStore

from tests.support.object_servers import BUCKET, UNSIGNED, empty_s3_bucket, running_s3
from tests.support.storage_contract import StorageContract


@pytest.fixture(scope="module")
async def xml_api():
    async with running_s3() as url:
        yield url


@pytest.fixture(scope="module")
def account_key():
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return {"client_email": "a@b.iam", "private_key": key.decode(), "private_key_id": "x"}


class TestGoogle(StorageContract):
    @pytest.fixture
    async def storage(self, xml_api, account_key):
        await empty_s3_bucket(xml_api)
        key = {**account_key, "disable_oauth": False, "gcs_base_url": xml_api}
        store = GCSStore(
            BUCKET,
            skip_signature=True,
            service_account_key=json.dumps(key),
            client_options={"allow_http": True, "default_headers": {"authorization": UNSIGNED}},
        )
        return Storage(store, Settings().storage)

    async def test_what_is_created_is_never_replaced(self, storage):
        pytest.skip("moto does not know Google's header `x-goog-if-generation-match`")


async def test_a_service_account_signs_without_a_network_call(account_key, monkeypatch, tmp_path):
    file = tmp_path / "account.json"
    file.write_text(json.dumps({**account_key, "disable_oauth": False}))
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(file))
    async with open_storage(Settings(CLOUD_PROVIDER="gcp", STORAGE_BUCKET=BUCKET)) as storage:
        signed = await storage.presign_get("t/images/a", 60)
    assert signed.url.startswith(f"https://storage.googleapis.com/{BUCKET}/t/images/a?")
    assert "X-Goog-Signature=" in signed.url
