"""Images that the server dies of: found by their being there each time, and failed.

    with all the others ─▶ the server dies ─▶ suspected ─▶ sent alone ─▶ answered: innocent
                                                  ▲             └─▶ the server dies ─┐
                                                  └──────────── not yet often enough ┴─▶ failed

What the server had in hand when it died is suspected, all of it, and from then on sent one by one,
over all workers.  The guilty one is failed; how often the server died of which item stays with the
chunk in the database, so that it is known wherever the chunk goes next.
"""

import asyncio

from image_categorizer import Classification as Answer
from image_categorizer_server.db import chunk as chunks
from image_categorizer_server.domain.batch import Chunk
from image_categorizer_server.errors import DependencyDown, ItemKilledServers
from image_categorizer_server.settings.worker import WorkerSettings
from image_categorizer_server.telemetry import get_log

from image_categorizer_workers.leases import LeaseLost, backoff_s
from image_categorizer_workers.streams import Feeds, ServerDied

log = get_log(__name__)


class Sender:
    """Sends the images of one chunk to the server: together, or alone where they are suspected."""

    def __init__(self, chunk: Chunk, feeds: Feeds, settings: WorkerSettings) -> None:
        self._chunk = chunk
        self._whose = chunk.tenant_id, chunk.options
        self._feeds = feeds
        self._settings = settings
        self._server_crashes = chunk.server_crashes
        self._uncounted: set[int] = set()
        self._counting = asyncio.Lock()

    async def classify(self, number: int, content: bytes) -> Answer:
        """Returns what an image shows, however often the server dies of others.

        Raises:
            ItemKilledServers: it died of this one.
            LeaseLost: others have the chunk.
            DependencyDown: the database does not answer.
            CategorizerError, CallFailed: as `Feeds.classify` does.
        """
        while True:
            is_alone = (
                self._server_crashes.get(number, 0) >= self._settings.isolate_after_server_crashes
            )
            try:
                if not is_alone:
                    return await self._feeds.classify(*self._whose, content)
                async with self._feeds.alone, chunks.isolation():
                    return await self._feeds.classify_alone(*self._whose, content)
            except ServerDied:
                count = await self._count(number)
            if (
                count
                >= self._settings.isolate_after_server_crashes
                + self._settings.fail_after_server_crashes
            ):
                raise ItemKilledServers(f"the server died {count} times while it had the image")

    async def _count(self, number: int) -> int:
        """Counts a death with all others of this moment, in one statement."""
        self._uncounted.add(number)
        await asyncio.sleep(0)
        async with self._counting:
            if number in self._uncounted:
                numbers, self._uncounted = self._uncounted, set()
                self._server_crashes = await self._counted(numbers)
        return self._server_crashes[number]

    async def _counted(self, numbers: set[int]) -> dict[int, int]:
        attempts = 0
        while True:
            try:
                counts = await chunks.count_server_crashes(self._chunk, numbers)
            except DependencyDown:
                attempts += 1
                await asyncio.sleep(backoff_s(attempts))
                continue
            if counts is None:
                raise LeaseLost
            names = {"batch_id": self._chunk.batch_id, "chunk": self._chunk.number}
            log.warning("the server died", items=len(numbers), **names)
            return counts
