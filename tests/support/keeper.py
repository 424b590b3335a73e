"""A server that is started again whenever it dies, as every installation does it."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.support.house import House

PAUSE_S = 0.2


@dataclass
class Kept:
    """What became of the server so far."""

    deaths: int = 0


@asynccontextmanager
async def kept_server(house: House, **variables: str) -> AsyncIterator[Kept]:
    """Runs a server until the block ends; starts it again soon after each of its deaths."""
    kept = Kept()
    server = await house.start_server(**variables)

    async def keep() -> None:
        nonlocal server
        while True:
            status = await asyncio.to_thread(server.wait)
            assert status == -signal.SIGKILL, house.log("server")[-3000:]
            kept.deaths += 1
            await asyncio.sleep(PAUSE_S)
            server = await house.start_server(**variables)

    keeping = asyncio.create_task(keep())
    try:
        yield kept
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        server.kill()  # or the thread that waits for it would hold up the end
