"""The sweeper of a worker, with a real database, Redis and disk."""

import os
import time

from image_categorizer_server import clock
from image_categorizer_server.access.subject import Subjects
from image_categorizer_server.db import upload as uploads
from image_categorizer_server.domain.retention import DataClass
from image_categorizer_server.services.batch import Batches
from image_categorizer_server.services.crashing_images import CRASHING_IMAGES_KEY
from image_categorizer_server.services.erasure import Erasures
from image_categorizer_server.services.retention import Retentions
from image_categorizer_server.services.tenant_removal import TenantRemoval
from image_categorizer_server.stores.expiring_set import RedisExpiringSet
from image_categorizer_server.stores.object_store import open_storage
from image_categorizer_server.stores.queue import Doorbell
from image_categorizer_server.stores.redis import RedisCache, open_redis
from image_categorizer_server.tasks import TaskOwner
from image_categorizer_workers.sweeper import Removals, Sweeper

from tests.support.batch_tools import count_undone, do_all, keys_of, make_batch
from tests.support.polling import eventually
from tests.support.storage_contract import store_image


def sweeper_of(redis, batches, storage):
    cache = RedisCache(redis, timeout_s=2)
    crashing = RedisExpiringSet(redis, CRASHING_IMAGES_KEY, timeout_s=2)
    removals = Removals(
        TenantRemoval(storage, cache, delay_s=1),
        Erasures(storage, cache, crashing, None, Subjects(b"")),
        Retentions(dict.fromkeys(DataClass, 0), 60, cuts_audit=False),
    )
    return Sweeper(Doorbell(redis), batches, removals, print, lease_s=30)


async def test_it_removes_what_crashed_processes_left(settings, database, empty_database, tmp_path):
    path = tmp_path / "images"
    own = settings.storage.model_copy(update={"path": path})
    settings = settings.model_copy(update={"storage": own})
    async with (
        open_storage(settings) as storage,
        open_redis(settings.redis_url, settings.redis) as redis,
    ):
        await store_image(storage, "t1", b"stored, and its item not written")
        half = path / "t1/images/aa/aa#1"
        half.parent.mkdir(parents=True)
        half.write_bytes(b"half")
        os.utime(half, (time.time() - 4000,) * 2)
        await uploads.begin_upload("t1", "b-dead", 60)
        clock.shift(61)
        batches = Batches(storage, settings.batch, settings.max_image_bytes)

        async def is_swept() -> bool:
            return not half.exists() and not await keys_of(storage)

        async with TaskOwner() as tasks:
            sweeper = sweeper_of(redis, batches, storage)
            tasks.start(sweeper.run(interval_s=0.05), "sweeper")
            await eventually(is_swept)
            tasks.check()


async def test_it_removes_deleted_batches(settings, batches, storage):
    deleted = [await make_batch(batches, 5) for _ in range(2)]
    await do_all()
    for batch_id in deleted:
        await batches.delete("t1", batch_id)
    assert len(await keys_of(storage)) == 5

    async def is_swept() -> bool:
        return not await keys_of(storage) and await count_undone() == 2  # that they completed

    async with (
        open_redis(settings.redis_url, settings.redis) as redis,
        TaskOwner() as tasks,
    ):
        for _ in range(2):
            sweeper = sweeper_of(redis, batches, storage)
            tasks.start(sweeper.run(interval_s=0.05), "sweeper")
        await eventually(is_swept)
        tasks.check()
