"""Encrypted images from the upload to the worker: keys in the database, rotation, erasure."""

import asyncio
import json

import pytest
from image_categorizer import BatchOptions
from image_categorizer_server.access.key_encryption import key_encryption, new_key
from image_categorizer_server.errors import DependencyDown, NotFound, OperatorError
from image_categorizer_server.services import data_key as data_keys
from image_categorizer_server.services.data_key import TenantKeys, open_sealer
from image_categorizer_server.settings.encryption import EncryptionSettings
from image_categorizer_server.stores.object_store import MemoryStorage, open_storage
from image_categorizer_server.stores.sealing import MAGIC, Sealer

from tests.integration.conftest import running_server
from tests.support.batch_tools import PICTURES, SOURCES
from tests.support.database import connect_in_scope
from tests.support.polling import eventually

FIRST, SECOND = new_key(), new_key()


def encryption(*keys):
    return EncryptionSettings(keys=",".join(keys))


async def rows(url):
    connection = await connect_in_scope(url)
    try:
        return await connection.fetch("SELECT * FROM data_keys ORDER BY tenant_id")
    finally:
        await connection.close()


async def test_uploaded_images_are_encrypted_and_workers_read_them(settings):
    secret = settings.model_copy(update={"encryption": encryption(FIRST)})
    async with running_server(secret) as server, await server.client() as client:
        await client.batches.submit(SOURCES, **BatchOptions())
        files = [path for path in settings.storage.path.rglob("*") if path.is_file()]
        assert files
        for file in files:
            stored = file.read_bytes()
            assert stored.startswith(MAGIC)
            assert not any(picture[100:200] in stored for picture in PICTURES)
        async with open_storage(secret, open_sealer(secret.encryption)) as storage:
            found = [str(file.relative_to(settings.storage.path)) for file in files]
            assert {await storage.get(key) for key in found} == set(PICTURES)


async def test_processes_agree_on_the_key_of_a_tenant(emptied):
    several = [TenantKeys(key_encryption(encryption(FIRST))) for _ in range(10)]
    found = await asyncio.gather(*(keys.current("a") for keys in several))
    assert len({key.secret for key in found}) == 1
    assert (await several[0].current("b")).secret != found[0].secret
    assert [row["tenant_id"] for row in await rows(emptied)] == ["a", "b"]
    for row in await rows(emptied):
        assert found[0].secret not in row["wrapped"]


async def test_a_key_of_another_tenant_does_not_exist(emptied):
    keys = TenantKeys(key_encryption(encryption(FIRST)))
    key = await keys.current("a")
    assert await keys.find("b", key.data_key_id) is None
    assert (await keys.find("a", key.data_key_id)).secret == key.secret


async def test_after_a_rotation_the_old_key_is_not_needed(emptied):
    keys = TenantKeys(key_encryption(encryption(FIRST)))
    before = {tenant: await keys.current(tenant) for tenant in ("a", "b", "c")}
    with pytest.raises(OperatorError, match="is not in"):
        await data_keys.rewrap(encryption(SECOND))
    assert await data_keys.rewrap(encryption(SECOND, FIRST)) == 3
    assert await data_keys.rewrap(encryption(SECOND, FIRST)) == 0
    only_new = TenantKeys(key_encryption(encryption(SECOND)))
    for tenant, key in before.items():
        assert (await only_new.current(tenant)).secret == key.secret
    with pytest.raises(DependencyDown, match="cannot be used"):
        await TenantKeys(key_encryption(encryption(FIRST))).current("a")


async def test_an_erased_key_is_lost_and_the_audit_says_so(emptied):
    storage = MemoryStorage(sealer=open_sealer(encryption(FIRST)))
    await storage.put("a/x", b"picture")
    await storage.put("b/x", b"picture")
    assert await data_keys.erase("a") == 1
    forgetful = TenantKeys(key_encryption(encryption(FIRST)), cache_s=0.001)
    lost = (await rows(emptied))[0]
    assert lost["tenant_id"] == "b"
    assert await forgetful.find("b", lost["data_key_id"]) is not None
    connection = await connect_in_scope(emptied)
    events = await connection.fetch(
        "SELECT action, tenant_id, detail FROM audit_events ORDER BY create_time"
    )
    await connection.close()
    assert [(event["action"], event["tenant_id"]) for event in events] == [
        *(("data_key.created", "a"), ("data_key.created", "b"), ("data_key.erase", "a")),
    ]
    assert json.loads(events[0]["detail"])["kek_id"] == key_encryption(encryption(FIRST)).current_id


async def test_a_wrapped_key_in_another_s_row_is_refused(emptied):
    keys = TenantKeys(key_encryption(encryption(FIRST)))
    await keys.current("a")
    await keys.current("b")
    connection = await connect_in_scope(emptied)
    await connection.execute(
        "UPDATE data_keys SET wrapped = (SELECT wrapped FROM data_keys WHERE tenant_id = 'a')"
    )
    await connection.close()
    with pytest.raises(DependencyDown, match="cannot be used"):
        await TenantKeys(key_encryption(encryption(FIRST))).current("b")


async def test_a_process_forgets_an_erased_key(emptied):
    sealer_keys = TenantKeys(key_encryption(encryption(FIRST)), cache_s=0.05)
    storage = MemoryStorage(sealer=Sealer(sealer_keys))
    await storage.put("a/x", b"picture")
    await data_keys.erase("a")

    async def is_lost():
        try:
            await storage.get("a/x")
        except NotFound:
            return True
        return False

    await eventually(is_lost, 5)
