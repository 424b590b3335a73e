"""The limit of items in flight."""

import asyncio

from image_categorizer_server.rpc.classify_stream import InFlightLimiter


async def is_open(limiter):
    try:
        async with asyncio.timeout(0.01):
            await limiter.wait()
    except TimeoutError:
        return False
    return True


async def test_items_are_limited_by_number():
    limiter = InFlightLimiter(max_items=2, max_bytes=1000)
    limiter.add(1)
    assert await is_open(limiter)
    limiter.add(1)
    assert not await is_open(limiter)
    limiter.remove(1)
    assert await is_open(limiter)


async def test_items_are_limited_by_bytes_which_the_last_may_exceed():
    limiter = InFlightLimiter(max_items=100, max_bytes=1000)
    limiter.add(999)
    assert await is_open(limiter)
    limiter.add(5000)
    assert not await is_open(limiter)
    limiter.remove(999)
    assert not await is_open(limiter)
    limiter.remove(5000)
    assert await is_open(limiter)


async def test_a_waiting_reader_goes_on_when_an_item_is_answered():
    limiter = InFlightLimiter(max_items=1, max_bytes=1000)
    limiter.add(1)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(limiter.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        limiter.remove(1)


async def test_a_waiting_reader_ends_when_the_limiter_is_closed():
    limiter = InFlightLimiter(max_items=1, max_bytes=1000)
    limiter.add(1)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(limiter.wait())
        await asyncio.sleep(0)
        limiter.close()
    assert waiting.result() is False
