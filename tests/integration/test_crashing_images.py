"""Images that crash processes: which are refused, by whom, and for how long."""

import hashlib
import signal
import subprocess
import sys
from contextlib import AsyncExitStack

import pytest
from image_categorizer_server.errors import CrashingImage
from image_categorizer_server.inference.images.decode import ImageLimits
from image_categorizer_server.inference.images.trial import Trial
from image_categorizer_server.services.crashing_images import CrashingImages
from image_categorizer_server.settings.database import RedisSettings
from image_categorizer_server.stores.expiring_set import MAX_MEMBERS, RedisExpiringSet
from image_categorizer_server.stores.in_flight import InFlight
from image_categorizer_server.stores.redis import open_redis
from image_categorizer_server.tasks import TaskOwner

from tests.support.pictures import jpeg
from tests.support.polling import eventually

LIMITS = ImageLimits(2**20, 10**6, 10**4, 100, 100)
HEALTHY, KILLER = jpeg(64, 48, 1), jpeg(64, 48, 2)
FAILPOINT = f"image.decoding@{hashlib.sha256(KILLER).hexdigest()}:1"
# A process that has two images when it is killed.
DIES = """
import os, pathlib, signal, sys
from image_categorizer_server.stores.in_flight import InFlight
from tests.support.pictures import jpeg
record = InFlight(pathlib.Path(sys.argv[1]))
with record.holding(jpeg(64, 48, 1)), record.holding(sys.stdin.buffer.read()):
    os.kill(os.getpid(), signal.SIGKILL)
"""
NOWHERE = "unix:///nowhere/redis.sock?db=0"


@pytest.fixture
async def redis(stores):
    async with open_redis(stores.redis.url, RedisSettings()) as redis:
        await redis.commands.flushdb()
        yield redis


@pytest.fixture
async def images():
    """Makes what one server process knows."""
    async with AsyncExitStack() as stack:

        def make(redis, memory_s=60.0, in_flight=None) -> CrashingImages:
            shared = RedisExpiringSet(redis, "crashing-images", 1.0)
            made = CrashingImages(Trial(LIMITS, FAILPOINT), shared, memory_s, in_flight)
            stack.push_async_callback(made.close)
            return made

        yield make


async def refuses(known: CrashingImages, content: bytes, *, is_repeated: bool = False) -> bool:
    try:
        async with known.guarding(content, is_repeated=is_repeated):
            return False
    except CrashingImage:
        return True


async def test_a_repeated_image_that_crashes_is_refused_by_all_for_a_while(redis, images):
    first, second = images(redis, memory_s=4), images(redis)
    async with TaskOwner() as tasks:
        tasks.start(second.watch(), "reader")
        assert not await refuses(first, HEALTHY, is_repeated=True)
        assert not await refuses(second, KILLER)
        assert await refuses(first, KILLER, is_repeated=True)
        # At once: the first has answered only when the second knew.
        assert await refuses(second, KILLER)
        assert await refuses(first, KILLER)
        assert not await refuses(second, HEALTHY)

        async def is_forgotten() -> bool:
            return not await refuses(second, KILLER)

        await eventually(is_forgotten, 10)
        tasks.check()


async def test_a_process_that_starts_later_knows_too(redis, images):
    assert await refuses(images(redis), KILLER, is_repeated=True)
    later = images(redis)
    async with TaskOwner() as tasks:
        tasks.start(later.watch(), "reader")

        async def is_known() -> bool:
            return await refuses(later, KILLER)

        await eventually(is_known, 10)


@pytest.fixture
def folder_of_dead(tmp_path):
    """The folder in which a process noted two images before it was killed."""
    left = subprocess.run([sys.executable, "-c", DIES, tmp_path], input=KILLER, check=False)
    assert left.returncode == -signal.SIGKILL
    return tmp_path


async def test_of_what_a_dead_process_had_only_the_image_that_crashes_is_refused(
    redis, images, folder_of_dead
):
    in_flight = InFlight(folder_of_dead)
    successor = images(redis, in_flight=in_flight)
    assert len(in_flight.left_behind) == 2
    assert not await refuses(successor, HEALTHY)
    assert await refuses(successor, KILLER)
    assert await refuses(successor, KILLER)
    in_flight.close()


async def test_without_redis_the_process_that_found_it_refuses(images):
    async with open_redis(NOWHERE, RedisSettings()) as redis, TaskOwner() as tasks:
        known = images(redis)
        tasks.start(known.watch(), "reader")
        assert await refuses(known, KILLER, is_repeated=True)
        assert await refuses(known, KILLER)
        assert not await refuses(known, HEALTHY, is_repeated=True)
        tasks.check()


async def test_the_set_is_bounded(redis):
    shared = RedisExpiringSet(redis, "some-set", 1.0)
    await redis.commands.zadd("some-set", {str(n): 2e9 + n for n in range(MAX_MEMBERS)})
    await shared.add("new", 3e9)
    members = await shared.members()
    assert len(members) == MAX_MEMBERS
    assert "new" in members
    assert "0" not in members
