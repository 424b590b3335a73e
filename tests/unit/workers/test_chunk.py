"""How many images a worker holds in memory."""

import asyncio

import pytest
from image_categorizer_workers.chunk import MemoryLimiter

from tests.conftest import SLACK_S
from tests.support.polling import eventually


@pytest.mark.parametrize(("size_bytes", "allowed"), [(1, 3), (60, 2), (1000, 1)])
async def test_memory_is_limited_by_number_and_bytes(size_bytes, allowed):
    memory, held, most = MemoryLimiter(3, 100), 0, 0

    async def hold() -> None:
        nonlocal held, most
        async with memory.hold(size_bytes):
            held += 1
            most = max(most, held)
            for _ in range(5):
                await asyncio.sleep(0)
            held -= 1

    await asyncio.gather(*(hold() for _ in range(10)))
    assert most == allowed


async def test_everyone_who_fits_goes_on_when_one_large_image_goes():
    memory, large_may_go, small_may_go = MemoryLimiter(200, 100), asyncio.Event(), asyncio.Event()
    held = []

    async def hold(size_bytes, may_go):
        async with memory.hold(size_bytes):
            held.append(size_bytes)
            await may_go.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(hold(100, large_may_go))
        for _ in range(121):
            group.create_task(hold(0, small_may_go))
        await eventually(lambda: held)
        assert held == [100]
        large_may_go.set()
        await eventually(lambda: len(held) == 122)
        small_may_go.set()


async def test_a_waiter_that_is_cancelled_takes_nobody_s_place():
    memory, entered = MemoryLimiter(1, 100), []

    async def hold(name):
        async with memory.hold(1):
            entered.append(name)

    async with memory.hold(1):
        waiting = [asyncio.create_task(hold(name)) for name in "abc"]
        await asyncio.sleep(0)
        waiting[0].cancel()
    waiting[1].cancel()  # its turn has come, but it does not know yet
    async with asyncio.timeout(SLACK_S):
        await asyncio.gather(*waiting, return_exceptions=True)
        assert entered == ["c"]
        await hold("later")
