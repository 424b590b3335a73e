"""Data keys that key-management services wrap: each service by its own library and protocol."""

import json
from collections.abc import Callable
from contextlib import asynccontextmanager

import boto3
import hvac
import pytest
from azure.core.credentials import AccessToken
from image_categorizer_server.access.key_encryption import key_encryption, new_key
from image_categorizer_server.access.kms.aws import AwsKey
from image_categorizer_server.access.kms.azure_vault import AzureKey
from image_categorizer_server.access.kms.google_cloud import GoogleKey
from image_categorizer_server.access.kms.service import KeyRefused, KeyService, KeyServiceDown
from image_categorizer_server.access.kms.vault import VaultKey
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.services import data_key as data_keys
from image_categorizer_server.services.data_key import TenantKeys
from image_categorizer_server.settings.encryption import EncryptionSettings

from tests.support.key_services import (
    AZURE_PATH,
    AZURE_TOKEN,
    GOOGLE_KEY,
    VAULT_TOKEN,
    AzureService,
    GoogleService,
    certified,
    running_moto,
    running_openbao,
    served,
)
from tests.support.up import free_port

PLAINTEXT = bytes(range(64))
TIMEOUT_S = 2.0
REGION, MOUNT, NAME = "eu-central-1", "photos/transit", "data-keys"


def check(key: KeyService, silent: KeyService, disable: Callable[[], object] | None) -> None:
    """Holds a key to what all keys promise; `silent` is the same key where nobody answers."""
    first, second = key.encrypt(PLAINTEXT), key.encrypt(PLAINTEXT)
    assert first != second
    assert key.decrypt(first) == key.decrypt(second) == PLAINTEXT
    for damaged in (first[:-1], first[:-5] + bytes(5), b"", b"\xff"):
        with pytest.raises(KeyRefused):
            key.decrypt(damaged)
    if disable:
        disable()
        with pytest.raises(KeyRefused):
            key.decrypt(first)
    with pytest.raises(KeyServiceDown):
        silent.decrypt(first)


def nowhere() -> str:
    return f"http://127.0.0.1:{free_port()}"


@asynccontextmanager
async def aws(monkeypatch):
    """Yields the name of a key, and a client."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    async with running_moto() as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", url)
        client = boto3.client("kms", region_name=REGION)
        yield client.create_key()["KeyMetadata"]["Arn"], client


async def test_aws_kms(monkeypatch):
    async with aws(monkeypatch) as (arn, client):
        key, unknown = AwsKey(arn, TIMEOUT_S), AwsKey(arn[:-4] + "0000", TIMEOUT_S)
        monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", nowhere())
        with pytest.raises(KeyRefused, match="NotFoundException"):
            unknown.encrypt(PLAINTEXT)
        other = client.create_key()["KeyMetadata"]["Arn"]
        of_other = client.encrypt(KeyId=other, Plaintext=PLAINTEXT)["CiphertextBlob"]
        with pytest.raises(KeyRefused, match="AccessDeniedException"):
            key.decrypt(of_other)
        check(key, AwsKey(arn, TIMEOUT_S), None)  # moto decrypts by disabled keys, too


async def test_google_cloud_kms(monkeypatch, tmp_path):
    service = GoogleService()
    file = tmp_path / "account.json"
    file.write_text(json.dumps(service.credentials()))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    with served(service) as url:
        key, unknown = (GoogleKey(GOOGLE_KEY + end, TIMEOUT_S, url) for end in ("", "2"))
        with pytest.raises(KeyRefused, match="NotFound"):
            unknown.encrypt(PLAINTEXT)
        silent = GoogleKey(GOOGLE_KEY, TIMEOUT_S, nowhere())
        check(key, silent, service.disable)
        service.fail()
        with pytest.raises(KeyServiceDown, match="ServiceUnavailable"):
            key.encrypt(PLAINTEXT)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none"))
    with pytest.raises(KeyRefused, match="no credentials"):
        GoogleKey(GOOGLE_KEY, TIMEOUT_S)


class Credential:
    """Has a token of Azure."""

    def get_token(self, *scopes, **options):
        return AccessToken(AZURE_TOKEN, 2**40)


async def test_azure_key_vault(monkeypatch, tmp_path):
    service = AzureService()
    tls, authority = certified(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
    with served(service, tls) as url:
        key = AzureKey(url + AZURE_PATH, TIMEOUT_S, Credential())
        gone = nowhere().replace("http:", "https:") + AZURE_PATH
        silent = AzureKey(gone, TIMEOUT_S, Credential())
        check(key, silent, service.disable)
        service.fail()
        with pytest.raises(KeyServiceDown, match="503"):
            key.decrypt(bytes(256))


async def test_vault_transit(monkeypatch):
    async with running_openbao() as url:
        monkeypatch.setenv("VAULT_ADDR", url)
        monkeypatch.setenv("VAULT_TOKEN", VAULT_TOKEN)
        client = hvac.Client()
        client.sys.enable_secrets_engine("transit", path=MOUNT)
        client.secrets.transit.create_key(NAME, mount_point=MOUNT)
        key = VaultKey(f"{MOUNT}/{NAME}", TIMEOUT_S)
        before = key.encrypt(PLAINTEXT)
        client.secrets.transit.rotate_key(NAME, mount_point=MOUNT)
        assert key.decrypt(before) == PLAINTEXT
        monkeypatch.setenv("VAULT_ADDR", nowhere())
        check(key, VaultKey(f"{MOUNT}/{NAME}", TIMEOUT_S), client.auth.token.revoke_self)


async def test_images_move_from_a_key_of_a_file_to_aws_and_outlive_an_outage(emptied, monkeypatch):
    local = new_key()
    async with aws(monkeypatch) as (arn, _client):
        before = TenantKeys(key_encryption(EncryptionSettings(keys=local)))
        secret = (await before.current("a")).secret
        both = EncryptionSettings(keys=f"{arn},{local}")
        assert await data_keys.rewrap(both) == 1
        assert await data_keys.check(both) == [(arn, ""), (data_keys_name(local), "")]
        only = EncryptionSettings(keys=arn)
        running = TenantKeys(key_encryption(only), cache_s=0.001)
        assert (await running.current("a")).secret == secret
        made = await running.current("b")
    # The service is gone: what is in use goes on, nothing else does, and the answer says why.
    assert (await running.current("a")).secret == secret
    assert (await running.current("b")) == made
    with pytest.raises(DependencyDown, match="key-management service does not answer"):
        await running.current("c")
    with pytest.raises(DependencyDown, match="key-management service does not answer"):
        await TenantKeys(key_encryption(only)).current("a")
    ((name, problem),) = await data_keys.check(only)
    assert (name, problem) == (arn, "the key-management service does not answer")


async def test_a_service_that_refuses_is_a_dependency_that_is_down(emptied, monkeypatch):
    async with aws(monkeypatch) as (arn, _client):
        unknown = EncryptionSettings(keys=arn[:-4] + "0000")
        with pytest.raises(DependencyDown, match="cannot be used"):
            await TenantKeys(key_encryption(unknown)).current("a")


def data_keys_name(key):
    return key_encryption(EncryptionSettings(keys=key)).current_id
