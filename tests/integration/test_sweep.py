"""The sweep of a worker, with a real database, Redis and disk."""

import asyncio
import os
import time

from image_categorizer_server import clock
from image_categorizer_server.db import upload as uploads
from image_categorizer_server.services.batch import Batches
from image_categorizer_server.stores.object_store import open_storage
from image_categorizer_server.stores.queue import open_doorbell
from image_categorizer_workers.sweeper import Sweeper

from tests.support.batch_tools import keys_of
from tests.support.storage_contract import store_image


async def test_it_removes_what_dead_processes_left(settings, database, empty_database, tmp_path):
    path = tmp_path / "images"
    own = settings.storage.model_copy(update={"path": path})
    settings = settings.model_copy(update={"storage": own})
    async with (
        open_storage(settings) as storage,
        open_doorbell(settings.redis_url, settings.redis) as doorbell,
    ):
        await store_image(storage, "t1", b"stored, and its item not written")
        half = path / "t1/images/aa/aa#1"
        half.parent.mkdir(parents=True)
        half.write_bytes(b"half")
        os.utime(half, (time.time() - 4000,) * 2)
        await uploads.begin_upload("t1", "b-dead", 60)
        clock.shift(61)
        batches = Batches(storage, settings.batch, settings.max_image_bytes)
        sweeping = asyncio.create_task(Sweeper(doorbell, batches, print, 30).run(0.05))
        async with asyncio.timeout(10):
            while half.exists() or await keys_of(storage):
                await asyncio.sleep(0.05)
        sweeping.cancel()
        await asyncio.wait({sweeping})
