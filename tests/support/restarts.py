"""A server that is restarted whenever it crashes, as a supervisor would."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.support.cluster import Cluster
from tests.support.polling import elapsed

PAUSE_S = 0.2


@dataclass
class Restarts:
    """What became of the server so far."""

    crashes: int = 0


@asynccontextmanager
async def restarted_server(cluster: Cluster, **variables: str) -> AsyncIterator[Restarts]:
    """Runs a server until the block ends; starts it again soon after each of its crashes."""
    restarts = Restarts()
    server = await cluster.start_server(**variables)

    async def keep() -> None:
        nonlocal server
        while True:
            status = await asyncio.to_thread(server.wait)
            assert status == -signal.SIGKILL, cluster.log("server")[-3000:]
            restarts.crashes += 1
            await elapsed(PAUSE_S)
            server = await cluster.start_server(**variables)

    keeping = asyncio.create_task(keep())
    try:
        yield restarts
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        server.kill()  # or the thread that waits for it would hold up the end
