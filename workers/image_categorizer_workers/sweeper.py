"""Cleans up after processes that died, and removes rows and images that nobody needs."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from image_categorizer_server import clock
from image_categorizer_server.db import chunk as chunks
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.services.batch import Batches, notify_workers
from image_categorizer_server.services.erasure import Erasures
from image_categorizer_server.services.image import remove_silent_images
from image_categorizer_server.services.image_upload import remove_expired_uploads
from image_categorizer_server.services.retention import Retentions
from image_categorizer_server.services.tenant_removal import TenantRemoval
from image_categorizer_server.stores.queue import Doorbell
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
JITTER = 0.2
# Pages of rows and of images that one sweep removes: leases of dead processes wait meanwhile.
MAX_PAGES = 100
# It looks at every file on disk: about one second for a million files.
UNFINISHED_INTERVAL_S = 3600.0


@dataclass(frozen=True, slots=True)
class Removals:
    """Who removes what must not be kept."""

    tenants: TenantRemoval
    subjects: Erasures
    retention: Retentions


class Sweeper:
    """Sweeps at intervals. Any number of processes may do so at once."""

    def __init__(
        self,
        doorbell: Doorbell,
        batches: Batches,
        removals: Removals,
        wake: Callable[[], None],
        lease_s: float,
    ) -> None:
        """Configures the sweeper.

        Args:
            doorbell: wakes workers for batches that wait in the outbox.
            batches: gives up uploads, and removes rows and images.
            removals: remove what deleted tenants and erased subjects have.
            wake: makes this process look for chunks that can be claimed again.
            lease_s: how long a lease lasts. A lease that ends within this time after the database
                was down could not be extended, so its end does not count as a crash.
        """
        self._doorbell = doorbell
        self._batches = batches
        self._removals = removals
        self._wake = wake
        self._lease_s = lease_s
        self._excused_until: datetime | None = None
        self._remove_unfinished_at_s = 0.0

    async def run(self, interval_s: float) -> None:
        """Sweeps about every `interval_s` seconds until cancelled.

        A step that fails does not stop the others; the next sweep tries it again.
        """
        while True:
            await asyncio.sleep(clock.jittered(interval_s, JITTER))
            for step in (
                self.free_chunks,
                self._notify_workers,
                self._give_up_uploads,
                self._remove_silent_images,
                self._remove_expired_uploads,
                self._remove_tenants,
                self._remove_old,
                self._remove_rows,
                self._remove_images,
                self._erase_subjects,
                self._remove_unfinished_images,
            ):
                name = step.__name__.strip("_")
                try:
                    await step()
                except DependencyDown as error:
                    log.warning("a step of the sweep failed", step=name, reason=error.message)
                except Exception:
                    log.exception("a step of the sweep failed because of a bug", step=name)

    async def free_chunks(self) -> None:
        """Makes chunks whose lease has ended claimable.

        Raises:
            DependencyDown: the database does not answer.
        """
        try:
            freed = await chunks.expire(excused_until=self._excused_until)
        except DependencyDown:
            self._excused_until = clock.now() + timedelta(seconds=self._lease_s)
            raise
        if freed:
            log.info("chunks of dead processes can be claimed again", chunks=freed)
            self._wake()

    async def _notify_workers(self) -> None:
        await notify_workers(self._doorbell)

    async def _give_up_uploads(self) -> None:
        if given_up := await self._batches.give_up_silent_uploads():
            log.info("gave up uploads of dead processes", uploads=given_up)

    async def _remove_silent_images(self) -> None:
        if removed := await remove_silent_images():
            log.info("removed images that dead processes were storing", images=removed)

    async def _remove_expired_uploads(self) -> None:
        if removed := await remove_expired_uploads():
            log.info("removed expired uploads", uploads=removed)

    async def _remove_tenants(self) -> None:
        await self._removals.tenants.sweep(MAX_PAGES)

    async def _erase_subjects(self) -> None:
        await self._removals.subjects.sweep()

    async def _remove_old(self) -> None:
        await self._removals.retention.sweep_at_intervals(MAX_PAGES)

    async def _remove_rows(self) -> None:
        await self._batches.remove_rows(MAX_PAGES)

    async def _remove_images(self) -> None:
        await self._batches.remove_images(MAX_PAGES)

    async def _remove_unfinished_images(self) -> None:
        if time.monotonic() >= self._remove_unfinished_at_s:
            self._remove_unfinished_at_s = time.monotonic() + UNFINISHED_INTERVAL_S
            if removed := await self._batches.remove_unfinished_images():
                log.info("removed unfinished files of dead processes", files=removed)
