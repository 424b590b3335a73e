"""Notes when keys were used, and writes it down now and then, never on the way of a request."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

from image_categorizer_server import clock
from image_categorizer_server.errors import DependencyDown

MAX_KEYS = 10_000


class KeyUses:
    """The last use of each key since they were last written."""

    def __init__(
        self, write: Callable[[Mapping[str, datetime]], Awaitable[None]], interval_s: float
    ) -> None:
        """Starts without uses.

        Args:
            write: stores the last use of keys, by their ids.
            interval_s: the pause between two writes, in seconds.
        """
        self._write = write
        self._interval_s = interval_s
        self._uses: dict[str, datetime] = {}

    def add(self, key_id: str) -> None:
        """Notes that a key is used now.  Between two writes only so many keys have a place."""
        if len(self._uses) < MAX_KEYS or key_id in self._uses:
            self._uses[key_id] = clock.now()

    async def write_forever(self) -> None:
        """Writes what has been noted, again and again, until cancelled."""
        while True:
            await asyncio.sleep(clock.jittered(self._interval_s))
            await self.write()

    async def write(self) -> None:
        """Writes what has been noted; keeps it if the database does not answer."""
        uses, self._uses = self._uses, {}
        if not uses:
            return
        try:
            await self._write(uses)
        except DependencyDown:
            self._uses = dict(list((uses | self._uses).items())[:MAX_KEYS])
