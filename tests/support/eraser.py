"""A process that works on erasures once, as a worker's sweeper does; failpoints may kill it.

python -m tests.support.eraser DATABASE_URL REDIS_URL STORAGE_PATH [FAILPOINT]
"""

import asyncio
import sys

from image_categorizer_server import failpoints
from image_categorizer_server.access.subject import Subjects
from image_categorizer_server.services.crashing_images import CRASHING_IMAGES_KEY
from image_categorizer_server.services.erasure import Erasures
from image_categorizer_server.settings import Settings
from image_categorizer_server.stores.expiring_set import RedisExpiringSet
from image_categorizer_server.stores.object_store import open_storage
from image_categorizer_server.stores.redis import RedisCache, open_redis

from tests.support.database import open_for_all_tenants


async def main(database_url: str, redis_url: str, path: str, failpoint: str = "") -> None:
    settings = Settings(DATABASE_URL=database_url, REDIS_URL=redis_url, storage={"path": path})
    failpoints.arm(failpoint)
    async with (
        open_for_all_tenants(database_url),
        open_storage(settings) as storage,
        open_redis(redis_url, settings.redis) as redis,
    ):
        cache = RedisCache(redis, settings.redis.timeout_s)
        crashing = RedisExpiringSet(redis, CRASHING_IMAGES_KEY, settings.redis.timeout_s)
        await Erasures(storage, cache, crashing, None, Subjects(b"")).sweep()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
