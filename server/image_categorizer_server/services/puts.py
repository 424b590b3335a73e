"""The images of one upload on their way to the store, several at a time.

    read ─▶ room? ─▶ a task for each image: put        the next one is read meanwhile

A store that takes 30 ms for each image takes 32 of them a second one by one, and 480 by sixteen.
"""

import asyncio

from image_categorizer_server import failpoints
from image_categorizer_server.stores.image_key import Image
from image_categorizer_server.stores.object_store import Storage


class Puts:
    """Stores images, so many at a time, and so many bytes of them."""

    def __init__(self, storage: Storage, most: int, most_bytes: int) -> None:
        """Begins with none.

        Args:
            storage: keeps them.
            most: images that are being stored at a time.
            most_bytes: that they may have together; one image may have more.
        """
        self._storage = storage
        self._most = most
        self._most_bytes = most_bytes
        self._under_way: dict[asyncio.Task[None], int] = {}

    async def put(self, image: Image) -> None:
        """Begins to store an image, once there is room.

        Raises:
            DependencyDown: the store does not answer, to this image or one before.
        """
        size = len(image.content)
        while self._under_way and not self._has_room(size):
            await self._some()
        self._under_way[asyncio.create_task(self._put(image))] = size

    async def end(self) -> None:
        """Returns once all images are stored.

        Raises:
            DependencyDown: the store does not answer.
        """
        while self._under_way:
            await self._some()

    async def settle(self) -> None:
        """Returns once nothing is being stored any more, whatever came of it."""
        await asyncio.gather(*self._under_way, return_exceptions=True)

    def _has_room(self, size: int) -> bool:
        total = sum(self._under_way.values()) + size
        return len(self._under_way) < self._most and total <= self._most_bytes

    async def _some(self) -> None:
        done, _ = await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            del self._under_way[task]
        # Where the store is down several fail at once: all are asked, the first is told.
        for failure in [task.exception() for task in done]:
            if failure is not None:
                raise failure

    async def _put(self, image: Image) -> None:
        await self._storage.put(image.key, image.content)
        failpoints.hit("blob.stored")
