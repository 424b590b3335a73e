"""Finds what nobody does any more: leases of the dead, bells not rung, uploads broken off."""

import asyncio
import random
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from image_categorizer_server import clock
from image_categorizer_server.db import chunk as chunks
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.services.batch import Batches, notify_workers
from image_categorizer_server.stores.queue import Doorbell
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
JITTER = 0.8, 1.2
# Of images, in one sweep.
MOST_PAGES = 100
# Every file of the store is looked at, which takes a second for a million of them.
UNFINISHED_INTERVAL_S = 3600.0


class Sweeper:
    """Any number of processes may sweep beside one another."""

    def __init__(
        self, doorbell: Doorbell, batches: Batches, wake: Callable[[], None], lease_s: float
    ) -> None:
        """Configures the sweeper.

        Args:
            doorbell: to ring where the outbox says so.
            batches: removes images.
            wake: lets this process look for chunks that have become free.
            lease_s: how long a lease lasts. Those that end so soon after the database was away end
                because of that: nobody could extend them.
        """
        self._doorbell = doorbell
        self._batches = batches
        self._wake = wake
        self._lease_s = lease_s
        self._excused_until: datetime | None = None
        self._unfinished_at_s = 0.0

    async def run(self, interval_s: float) -> None:
        """Sweeps until cancelled, about every `interval_s`; what is down is swept the next time."""
        while True:
            await asyncio.sleep(interval_s * random.uniform(*JITTER))  # noqa: S311 - no secret
            for sweep in (
                self.free_chunks,
                self._ring,
                self._give_up_uploads,
                self._remove_images,
                self._remove_unfinished_images,
            ):
                try:
                    await sweep()
                except DependencyDown as error:
                    log.warning("not swept", what=sweep.__name__.strip("_"), why=error.message)
                except Exception:
                    log.exception("a bug; the next sweep may go better")

    async def free_chunks(self) -> None:
        """Lets chunks whose lease has ended be claimed again.

        Raises:
            DependencyDown: the database does not answer.
        """
        try:
            freed = await chunks.expire(excused_until=self._excused_until)
        except DependencyDown:
            self._excused_until = clock.now() + timedelta(seconds=self._lease_s)
            raise
        if freed:
            log.info("chunks of dead processes may be claimed again", chunks=freed)
            self._wake()

    async def _ring(self) -> None:
        await notify_workers(self._doorbell)

    async def _remove_images(self) -> None:
        await self._batches.remove_images(MOST_PAGES)

    async def _remove_unfinished_images(self) -> None:
        if time.monotonic() >= self._unfinished_at_s:
            self._unfinished_at_s = time.monotonic() + UNFINISHED_INTERVAL_S
            if removed := await self._batches.remove_unfinished_images():
                log.info("images that dead processes were storing are removed", images=removed)

    async def _give_up_uploads(self) -> None:
        if given_up := await self._batches.give_up_silent_uploads():
            log.info("uploads that were silent for too long are given up", uploads=given_up)
