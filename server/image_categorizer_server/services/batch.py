"""Use cases: batches of images, from their upload to their removal."""

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

from image_categorizer_server import failpoints
from image_categorizer_server.db import batch as rows
from image_categorizer_server.db import outbox
from image_categorizer_server.db import result as result_rows
from image_categorizer_server.db import upload as upload_rows
from image_categorizer_server.domain.batch import Batch, BatchConfig, BatchState, ItemResult
from image_categorizer_server.errors import DependencyDown, InvalidRequest, RequestIdReused
from image_categorizer_server.services.upload import NewItem, Upload
from image_categorizer_server.settings.batch import BatchSettings
from image_categorizer_server.stores.object_store import Storage
from image_categorizer_server.telemetry import get_log

__all__ = ["Batches", "NewItem", "Page"]

log = get_log(__name__)
DEFAULT_PAGE = 100
LARGEST_PAGE = 1000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Pages of images that `delete` removes itself before it answers; the rest is swept.
BLOB_PAGES = 10

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Part of a list."""

    items: list[Item]
    next_page_token: str
    """Asks for the page after this one; empty on the last."""


class Batches:
    """What callers can do with batches; each call is of one tenant and sees only that one's."""

    def __init__(
        self,
        storage: Storage,
        settings: BatchSettings,
        max_image_bytes: int,
        ring: Callable[[str], Awaitable[object]] | None = None,
        check: Callable[[BatchConfig], Awaitable[object]] | None = None,
    ) -> None:
        """Configures the use cases.

        Args:
            storage: keeps the images.
            settings: limits.
            max_image_bytes: the most that one encoded image may have.
            ring: wakes a worker for a batch; None: workers look by themselves.
            check: raises what `create` is to refuse a configuration with; None: all are taken.
        """
        self._storage = storage
        self._settings = settings
        self._max_image_bytes = max_image_bytes
        self._ring = ring
        self._check = check

    async def create(
        self, tenant_id: str, key_id: str, config: BatchConfig, items: AsyncIterator[NewItem]
    ) -> Batch:
        """Takes a batch, its images stored and its items in the database; idempotent by request id.

        One image is in memory at a time.  An image that is too large or empty is an item that has
        failed.  Where the call fails nothing remains of it.

        Raises:
            InvalidRequest, BatchTooLarge: no items, more than a batch may have, or a
                `webhook_url` that may not be called.
            ModelNotFound, CategoryNotFound: the options name what does not exist.
            RequestIdReused: another batch was created with the request id.
            DependencyDown: the database or the storage does not answer.
        """
        if self._check:
            await self._check(config)
        upload = Upload(tenant_id, config, self._storage, self._settings, self._max_image_bytes)
        async with upload:
            async for item in items:
                await upload.add(item)
            accepted = await upload.accept(key_id)
        if accepted.request_sha256 != upload.request_sha256:
            raise RequestIdReused("another batch was created with this request_id")
        await self._wake_worker(accepted.batch_id)
        return await self.get(tenant_id, accepted.batch_id)

    async def get(self, tenant_id: str, batch_id: str) -> Batch:
        """Returns one batch.

        Raises:
            BatchNotFound, DependencyDown: expected.
        """
        return await rows.find(tenant_id, batch_id, self._settings.max_failures_shown)

    async def list(
        self,
        tenant_id: str,
        page_size: int = 0,
        page_token: str = "",
        state: BatchState | None = None,
    ) -> Page[Batch]:
        """Returns a page of the tenant's batches, the newest first.

        Args:
            tenant_id: whose batches.
            page_size: the most batches; 0 means 100, and more than 1000 means 1000.
            page_token: of the page before; empty for the start.
            state: only those in this state.

        Raises:
            InvalidRequest: size or token is none.
            DependencyDown: expected.
        """
        limit = _limit(page_size)
        before = _position(page_token) if page_token else None
        found = await rows.list_batches(
            tenant_id, limit + 1, before, state, self._settings.max_failures_shown
        )
        page = found[:limit]
        token = _batch_token(page[-1]) if len(found) > limit else ""
        return Page(page, token)

    async def cancel(self, tenant_id: str, batch_id: str) -> Batch:
        """Ends a batch early; what is being classified is finished. Idempotent.

        Raises:
            BatchNotFound, DependencyDown: expected.
        """
        await rows.cancel(tenant_id, batch_id)
        return await self.get(tenant_id, batch_id)

    async def retry(self, tenant_id: str, batch_id: str) -> Batch:
        """Begins failed and pending items of an ended batch again; nothing where there are none.

        Raises:
            BatchNotFound, BatchRunning, DependencyDown: expected.
        """
        if await rows.retry(tenant_id, batch_id, self._settings.chunk_items):
            await self._wake_worker(batch_id)
        return await self.get(tenant_id, batch_id)

    async def delete(self, tenant_id: str, batch_id: str) -> None:
        """Removes an ended batch, its results, and its images where no other batch has them.

        Raises:
            BatchNotFound, BatchRunning, DependencyDown: expected.
        """
        await rows.delete(tenant_id, batch_id)
        try:
            await self.remove_images(BLOB_PAGES)
        except DependencyDown as error:
            log.warning("images are removed later", batch_id=batch_id, why=error.message)

    async def remove_images(self, most_pages: int) -> int:
        """Removes images that no batch refers to any more; returns how many.

        Raises:
            DependencyDown: expected.
        """
        count = 0
        for _ in range(most_pages):
            async with outbox.unreferenced_images() as keys:
                if keys is None:
                    break
                failpoints.hit("blobs.removing")
                await self._storage.delete(keys)
                count += len(keys)
        return count

    async def give_up_silent_uploads(self) -> int:
        """Gives up the uploads whose server died, with what they left; returns how many.

        The server may have stored images of which it wrote nothing: they are looked for.

        Raises:
            DependencyDown: expected.
        """
        silent = await upload_rows.take_silent_uploads(self._settings.upload_lease_s)
        for tenant_id, batch_id in silent:
            keys: list[str] = []
            page: list[str] = []
            async for found in self._storage.list(f"{tenant_id}/images"):
                page.append(found.key)
                if len(page) == outbox.KEYS_PER_ROW:
                    keys += await outbox.find_unreferenced(page)
                    page = []
            keys += await outbox.find_unreferenced(page)
            await upload_rows.give_up_upload(tenant_id, batch_id, keys)
        return len(silent)

    async def remove_unfinished_images(self) -> int:
        """Removes what processes that died were storing; returns how much.

        Raises:
            DependencyDown: the storage does not answer.
        """
        return await self._storage.remove_unfinished()

    async def results(
        self, tenant_id: str, batch_id: str, page_size: int = 0, page_token: str = ""
    ) -> Page[ItemResult]:
        """Returns a page of the outcomes that there are, by item.

        Args:
            tenant_id: whose batch.
            batch_id: the batch.
            page_size: the most outcomes; 0 means 100, and more than 1000 means 1000.
            page_token: of the page before; empty for the start.

        Raises:
            InvalidRequest: size or token is none.
            BatchNotFound, DependencyDown: expected.
        """
        limit, after = _limit(page_size), _number(page_token) if page_token else -1
        await rows.find(tenant_id, batch_id, 0)
        found = await result_rows.list_results(tenant_id, batch_id, after, limit + 1)
        page = found[:limit]
        return Page(page, str(page[-1].number) if len(found) > limit else "")

    async def export(self, tenant_id: str, batch_id: str) -> AsyncGenerator[ItemResult]:
        """Yields all outcomes that there are, by item; those that come meanwhile, too, or not.

        Raises:
            BatchNotFound, DependencyDown: expected.
        """
        await rows.find(tenant_id, batch_id, 0)
        after = -1
        while found := await result_rows.list_results(tenant_id, batch_id, after, LARGEST_PAGE):
            for result in found:
                yield result
            after = found[-1].number

    async def watch(self, tenant_id: str, batch_id: str) -> AsyncGenerator[Batch]:
        """Yields the batch, again whenever it has changed, and for the last time when it has ended.

        Raises:
            BatchNotFound: also where it is removed meanwhile.
            DependencyDown: expected.
        """
        seen: tuple[object, ...] = ()
        while True:
            batch = await self.get(tenant_id, batch_id)
            now = (batch.state, batch.succeeded_count, batch.failed_count, batch.start_time)
            if now != seen:
                seen = now
                yield batch
            if batch.state.has_ended:
                return
            await asyncio.sleep(self._settings.watch_interval_s)

    async def _wake_worker(self, batch_id: str) -> None:
        """Rings, if it can: the outbox holds the bell until somebody could."""
        if self._ring is None:
            return
        try:
            await self._ring(batch_id)
        except DependencyDown as error:
            log.warning("nobody was rung", batch_id=batch_id, why=error.message)
        failpoints.hit("batch.rung")


def _limit(page_size: int) -> int:
    if page_size < 0:
        raise InvalidRequest.of([("page_size", "must be at least 0")])
    return min(page_size or DEFAULT_PAGE, LARGEST_PAGE)


def _batch_token(batch: Batch) -> str:
    micros = (batch.create_time - EPOCH) // timedelta(microseconds=1)
    return base64.urlsafe_b64encode(f"{micros} {batch.batch_id}".encode()).decode()


def _position(token: str) -> tuple[datetime, str]:
    try:
        micros, batch_id = base64.b64decode(token, b"-_", validate=True).decode().split(" ")
        if "\0" not in batch_id:
            return EPOCH + timedelta(microseconds=int(micros)), batch_id
    except (binascii.Error, ValueError, OverflowError):
        pass
    raise InvalidRequest.of([("page_token", "is not one that was answered with")])


def _number(token: str) -> int:
    if token.isascii() and token.isdecimal() and len(token) < 10:
        return int(token)
    raise InvalidRequest.of([("page_token", "is not one that was answered with")])
