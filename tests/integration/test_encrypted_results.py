"""Results of batches that are encrypted in the database, and read by whoever has the key."""

import pytest
from image_categorizer import AsyncImageCategorizationClient, NotFound, ResultErased
from image_categorizer_server.access.key_encryption import key_encryption, new_key
from image_categorizer_server.domain.access import Role
from image_categorizer_server.services import data_key as data_keys
from image_categorizer_server.services.data_key import TenantKeys, open_sealer
from image_categorizer_server.settings.encryption import EncryptionSettings
from image_categorizer_server.stores.image_key import image_key
from image_categorizer_server.stores.object_store import MemoryStorage

from tests.integration.conftest import running_server
from tests.integration.test_workers import worker_components, working
from tests.support.database import connect_as_owner
from tests.support.pictures import jpeg

KEY = new_key()
SUBJECTS = "a" * 32, "b" * 32


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"encryption": EncryptionSettings(keys=KEY)})


async def stored(url):
    connection = await connect_as_owner(url)
    try:
        return await connection.fetch("SELECT * FROM batch_results ORDER BY batch_id, number")
    finally:
        await connection.close()


async def classified(client, *contents):
    """Returns the id of a batch that has ended, and its results."""
    files = [(f"{number}.jpg", content) for number, content in enumerate(contents)]
    batch = await client.batches.submit(files)
    async for _ in client.batches.watch(batch.batch_id):
        pass
    return batch.batch_id, [r async for r in client.batches.results(batch.batch_id)]


async def test_results_are_encrypted_and_bound_to_their_place(settings, empty_database):
    url = empty_database
    async with (
        running_server(settings) as server,
        worker_components(settings, server) as components,
        working(components),
        await server.client() as client,
    ):
        good = [jpeg(64, 48), jpeg(48, 64)]
        batch_id, results = await classified(client, *good, b"no image")
        assert [r.category for r in results[:2]] == [
            (await client.classify_image(content)).category for content in good
        ]
        first, second, failed = await stored(url)
        for row in (first, second):
            assert row["predictions"] is None
            assert not any(name in row["sealed"] for name in (b"ant", b"category", b"confidence"))
        assert (failed["sealed"], failed["reason"]) == (None, "IMAGE_UNDECODABLE")
        connection = await connect_as_owner(url)
        await connection.execute(
            "UPDATE batch_results SET sealed = $1 WHERE batch_id = $2 AND number = 0",
            second["sealed"],
            batch_id,
        )
        await connection.close()
        moved, right, _ = [r async for r in client.batches.results(batch_id)]
        assert isinstance(moved.error, ResultErased)
        assert right == results[1]


async def test_an_erased_key_erases_the_results_and_nothing_else(settings):
    async with (
        running_server(settings) as server,
        worker_components(settings, server) as components,
        working(components),
        await server.client() as client,
    ):
        batch_id, results = await classified(client, jpeg(64, 48))
        assert results[0].category
        assert await data_keys.erase("default") == 1
    async with running_server(settings) as server:  # which has not read the key before
        key = await server.key(Role.VIEWER)
        async with AsyncImageCategorizationClient(key, server.address) as client:
            (lost,) = [r async for r in client.batches.results(batch_id)]
            assert isinstance(lost.error, NotFound)
            assert (lost.filename, lost.error.reason) == ("0.jpg", "RESULT_ERASED")
            assert (await client.batches.get(batch_id)).succeeded_count == 1


async def test_each_subject_has_a_key_of_its_own(database):
    storage = MemoryStorage(sealer=open_sealer(EncryptionSettings(keys=KEY)))
    keys = [image_key("a", "0" * 64, subject) for subject in ("", *SUBJECTS)]
    for key in keys:
        await storage.put(key, b"picture")
        assert await storage.get(key) == b"picture"
    found = TenantKeys(key_encryption(EncryptionSettings(keys=KEY)))
    secrets = {(await found.current("a", subject)).secret for subject in ("", *SUBJECTS)}
    assert len(secrets) == 3
