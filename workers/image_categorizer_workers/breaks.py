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
from image_categorizer_server.batch_domain import Chunk
from image_categorizer_server.batch_groups import WorkerSettings
from image_categorizer_server.db import suspects
from image_categorizer_server.errors import DependencyDown, ItemKilledServers
from image_categorizer_server.telemetry import get_log

from image_categorizer_workers.feeds import Feeds, ServerDied
from image_categorizer_workers.leases import LeaseLost, backoff_s

log = get_log(__name__)


class Sender:
    """Sends the images of one chunk to the server: together, or alone where they are suspected."""

    def __init__(self, chunk: Chunk, feeds: Feeds, settings: WorkerSettings) -> None:
        self._chunk = chunk
        self._feeds = feeds
        self._settings = settings
        self._breaks = dict(chunk.breaks)

    async def classify(self, number: int, content: bytes) -> Answer:
        """Returns what an image shows, however often the server dies of others.

        Raises:
            ItemKilledServers: expected; it died of this one.
            LeaseLost: expected; others have the chunk.
            DependencyDown: expected; the database does not answer.
            CategorizerError, CallFailed: as `Feeds.classify` does.
        """
        while True:
            is_alone = self._breaks.get(number, 0) >= self._settings.suspect_breaks
            try:
                if not is_alone:
                    return await self._feeds.classify(self._chunk.options, content)
                async with self._feeds.alone, suspects.turn():
                    return await self._feeds.classify_alone(self._chunk.options, content)
            except ServerDied:
                count = self._breaks[number] = await self._count(number)
                names = {"batch_id": self._chunk.batch_id, "item": number}
                log.warning("the server died", count=count, alone=is_alone, **names)
            if is_alone and count >= self._settings.most_breaks:
                raise ItemKilledServers(f"the server died {count} times while it had the image")

    async def _count(self, number: int) -> int:
        attempts = 0
        while True:
            try:
                count = await suspects.count_break(self._chunk, number)
            except DependencyDown:
                attempts += 1
                await asyncio.sleep(backoff_s(attempts))
                continue
            if count is None:
                raise LeaseLost
            return count
