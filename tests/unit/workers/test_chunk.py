"""How many images a worker holds in memory."""

import asyncio

import pytest
from image_categorizer_workers.chunk import MemoryLimiter


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
