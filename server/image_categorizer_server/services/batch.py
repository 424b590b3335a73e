"""Batches of images, from their upload to their removal."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from image_categorizer_server import failpoints
from image_categorizer_server.access.subject import Subjects
from image_categorizer_server.db import batch as rows
from image_categorizer_server.db import outbox, removal
from image_categorizer_server.db import result as result_rows
from image_categorizer_server.db import upload as upload_rows
from image_categorizer_server.domain.batch import Batch, BatchConfig, BatchState, ItemResult
from image_categorizer_server.domain.blur import Rectangle
from image_categorizer_server.domain.outbox import OutboxKind
from image_categorizer_server.errors import DependencyDown, NotFound, RequestIdReused
from image_categorizer_server.paging import (
    Page,
    limit_of,
    moment_and_text_of,
    number_of,
    page_from,
    token_of,
    token_of_moment,
)
from image_categorizer_server.services.limit import BatchAdmission, Limiter
from image_categorizer_server.services.upload import (
    PAGE_ITEMS,
    IgnoredFile,
    Intake,
    NewItem,
    Upload,
)
from image_categorizer_server.settings.batch import BatchSettings
from image_categorizer_server.stores.image_key import subject_folder
from image_categorizer_server.stores.object_store import Storage
from image_categorizer_server.stores.queue import Doorbell
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
NOTIFICATIONS_AT_ONCE = 500
# Rows that an export reads at once: one may have thousands of predictions.
EXPORT_ROWS = 100
# Keys of a storage that are compared with the database at once.
KEYS_AT_ONCE = 1000
# A removal that takes longer is cut off, well before another process takes it over.
REMOVAL_S = 30.0
REMOVAL_LEASE_S = 2 * REMOVAL_S
# Two processes must not take the same notification at once; a dead one's is free again soon.
NOTIFICATION_LEASE_S = 5.0
Items = AsyncIterator[NewItem | IgnoredFile]


@dataclass(frozen=True, slots=True)
class BatchCheck:
    """What new batches have to pass, and what happens to their images."""

    config: Callable[[str, BatchConfig], Awaitable[object]]
    """Raises an error if a configuration of a tenant should be refused."""
    limiter: Limiter | None = None
    """Knows the quotas of tenants; None for none."""
    subjects: Subjects = field(default_factory=lambda: Subjects(b""))
    """Makes keys of subjects."""
    blurred: Callable[[bytes, Sequence[Rectangle]], bytes] | None = None
    """Returns an encoded image without what nobody may see; None if none is blurred."""


class Batches:
    """What callers can do with batches.  Each call is for one tenant and sees only its batches."""

    def __init__(
        self,
        storage: Storage,
        settings: BatchSettings,
        max_image_bytes: int,
        notify_workers: Callable[[str], Awaitable[object]] | None = None,
        check: BatchCheck | None = None,
        page_items: int = PAGE_ITEMS,
    ) -> None:
        """Configures the service.

        Args:
            storage: keeps the images.
            settings: limits.
            max_image_bytes: the maximum size of one encoded image.
            notify_workers: wakes a worker for a batch; None if workers find it by themselves.
            check: what `create` refuses; None accepts all.
            page_items: how many items of an upload are written at once.
        """
        self._storage = storage
        self._settings = settings
        blurred = check.blurred if check else None
        self._intake = Intake(max_image_bytes, page_items, blurred)
        self._notify_workers = notify_workers
        self._check = check

    async def create(self, tenant_id: str, key_id: str, config: BatchConfig, items: Items) -> Batch:
        """Creates a batch: its images are stored, its items are in the database.

        Idempotent by request id.  One image is in memory at a time.  An image that is empty or too
        large becomes a failed item.  If the call fails, nothing remains of it.

        Raises:
            InvalidRequest: there are no items, or `webhook_url` may not be called.
            BatchTooLarge: there are more items or bytes than a batch may have.
            ModelNotFound, CategoryNotFound: the options name what does not exist.
            RequestIdReused: another batch was created with the request id.
            QuotaExceeded: the batch exceeds a quota of the tenant.
            FailedPrecondition: the server keeps nothing about subjects.
            SubjectErased: the subject was erased.
            DependencyDown: the database or the storage does not answer.
        """
        limiter = self._check.limiter if self._check else None
        if self._check:
            await self._check.config(tenant_id, config)
            config = _with_subject(tenant_id, config, self._check.subjects)
        upload = Upload(
            tenant_id,
            config,
            self._storage,
            self._settings,
            self._intake,
        )
        async with upload:
            async for item in items:
                await upload.add(item)
            accepted = await upload.accept(key_id, limiter)
        if accepted.request_sha256 != upload.request_sha256:
            raise RequestIdReused("another batch was created with this request_id")
        await self._try_to_notify(accepted.batch_id)
        return await self.get(tenant_id, accepted.batch_id)

    async def get(self, tenant_id: str, batch_id: str) -> Batch:
        """Returns one batch.

        Raises:
            BatchNotFound: the tenant has no such batch.
            DependencyDown: the database does not answer.
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
            tenant_id: the tenant.
            page_size: see `paging.limit_of`.
            page_token: the token of the previous page; empty for the first page.
            state: only batches in this state; None for all.

        Raises:
            InvalidRequest: `page_size` or `page_token` is not valid.
            DependencyDown: the database does not answer.
        """
        limit = limit_of(page_size)
        found = await rows.list_batches(
            tenant_id,
            limit + 1,
            moment_and_text_of(page_token),
            state,
            self._settings.max_failures_shown,
        )
        return page_from(found, limit, _token_after)

    async def cancel(self, tenant_id: str, batch_id: str) -> Batch:
        """Cancels a batch; what is being classified is finished.  Idempotent.

        Raises:
            BatchNotFound: the tenant has no such batch.
            DependencyDown: the database does not answer.
        """
        await rows.cancel(tenant_id, batch_id)
        return await self.get(tenant_id, batch_id)

    async def retry(self, tenant_id: str, batch_id: str) -> Batch:
        """Restarts an ended batch for its failed and pending items; does nothing if it has none.

        Raises:
            BatchNotFound: the tenant has no such batch.
            BatchRunning: the batch has not ended.
            QuotaExceeded: it exceeds a quota of the tenant; images that are classified again count
                again.
            DependencyDown: the database does not answer.
        """
        limiter = self._check.limiter if self._check else None
        admission = BatchAdmission(limiter, tenant_id) if limiter else None
        if await rows.retry(tenant_id, batch_id, self._settings.chunk_items, admission):
            await self._try_to_notify(batch_id)
        return await self.get(tenant_id, batch_id)

    async def delete(self, tenant_id: str, batch_id: str) -> None:
        """Removes an ended batch for every caller, at once, however large it is.

        Sweeps remove its results, and its images that nothing else refers to.

        Raises:
            BatchNotFound: the tenant has no such batch.
            BatchRunning: the batch has not ended.
            DependencyDown: the database does not answer.
        """
        await rows.delete(tenant_id, batch_id)

    async def results(
        self, tenant_id: str, batch_id: str, page_size: int = 0, page_token: str = ""
    ) -> Page[ItemResult]:
        """Returns a page of the outcomes so far, by item.

        Args:
            tenant_id: the tenant.
            batch_id: the batch.
            page_size: see `paging.limit_of`.
            page_token: the token of the previous page; empty for the first page.

        Raises:
            InvalidRequest: `page_size` or `page_token` is not valid.
            BatchNotFound: the tenant has no such batch.
            DependencyDown: the database does not answer.
        """
        limit, after = limit_of(page_size), number_of(page_token)
        found = await result_rows.list_results(
            tenant_id,
            batch_id,
            -1 if after is None else after,
            limit + 1,
            self._storage.sealer,
        )
        return page_from(found, limit, lambda result: token_of(result.number))

    async def export(self, tenant_id: str, batch_id: str) -> AsyncGenerator[ItemResult]:
        """Yields all outcomes so far, by item; may include outcomes written meanwhile.

        Raises:
            BatchNotFound: the tenant has no such batch, or it was deleted meanwhile.
            DependencyDown: the database does not answer.
        """
        after, sealer = -1, self._storage.sealer
        while found := await result_rows.list_results(
            tenant_id, batch_id, after, EXPORT_ROWS, sealer
        ):
            for result in found:
                yield result
            after = found[-1].number

    async def contents(self, tenant_id: str, batch_id: str) -> AsyncGenerator[tuple[int, bytes]]:
        """Yields number and content of the images of a batch that are stored.

        Raises:
            BatchNotFound: the tenant has no such batch.
            DependencyDown: the database or the storage does not answer.
        """
        await self.get(tenant_id, batch_id)
        after = -1
        while found := await rows.list_objects(batch_id, after, EXPORT_ROWS):
            for number, key in found:
                with suppress(NotFound):  # removed meanwhile, or lost
                    yield number, await self._storage.get(key)
            after = found[-1][0]

    async def watch(self, tenant_id: str, batch_id: str) -> AsyncGenerator[Batch]:
        """Yields the batch, again after each change, and a last time when it has ended.

        Raises:
            BatchNotFound: the tenant has no such batch, or it was removed meanwhile.
            DependencyDown: the database does not answer.
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

    async def remove_rows(self, max_pages: int) -> int:
        """Removes rows of deleted batches and of uploads that were given up.

        Args:
            max_pages: the maximum number of pages, each of which is one short transaction.

        Returns:
            The number of pages.

        Raises:
            DependencyDown: the database does not answer.
        """
        count = 0
        while count < max_pages and await removal.remove_rows():
            count += 1
        return count

    async def remove_images(self, max_rows: int) -> int:
        """Removes images to which nothing refers any more; returns how many.

        Args:
            max_rows: the maximum number of rows of the outbox to process.

        Raises:
            DependencyDown: the database or the storage does not answer, or the storage is slow.
        """
        count = 0
        for _ in range(max_rows):
            claimed = await removal.claim_images(REMOVAL_LEASE_S)
            if claimed is None:
                break
            failpoints.hit("blobs.removing")
            try:
                async with asyncio.timeout(REMOVAL_S):
                    await self._storage.delete(claimed.keys)
            except TimeoutError as error:
                raise DependencyDown("the image storage removes images too slowly") from error
            failpoints.hit("blobs.removed")
            await removal.end_removal(claimed)
            count += len(claimed.keys)
        return count

    async def give_up_silent_uploads(self) -> int:
        """Gives up uploads whose server died; returns how many.

        The server may have stored images for which it wrote no item, so all images of the tenant,
        or of its subject, are checked.

        Raises:
            DependencyDown: the database or the storage does not answer.
        """
        silent = await upload_rows.take_silent_uploads(self._settings.upload_lease_s)
        for tenant_id, batch_id, subject_key in silent:
            page: list[str] = []
            async for found in self._storage.list(subject_folder(tenant_id, subject_key)):
                page.append(found.key)
                if len(page) == KEYS_AT_ONCE:
                    await removal.add_unreferenced(tenant_id, batch_id, page)
                    page = []
            await removal.add_unreferenced(tenant_id, batch_id, page)
            await upload_rows.give_up_upload(tenant_id, batch_id)
        return len(silent)

    async def remove_unfinished_images(self) -> int:
        """Removes what dead processes were storing; returns how many files that were.

        Raises:
            DependencyDown: the storage does not answer.
        """
        return await self._storage.remove_unfinished()

    async def _try_to_notify(self, batch_id: str) -> None:
        """Wakes a worker.  If that fails, a sweep does so later: the outbox keeps the row."""
        if self._notify_workers is None:
            return
        try:
            await self._notify_workers(batch_id)
        except DependencyDown as error:
            log.warning("no worker was notified", batch_id=batch_id, why=error.message)
        failpoints.hit("batch.notified")


async def notify_workers(doorbell: Doorbell, batch_id: str | None = None) -> int:
    """Wakes a worker for each batch that waits in the outbox; returns how many.

    Waking a worker twice does no harm, so a process may die anywhere in here.

    Args:
        doorbell: wakes workers.
        batch_id: only for this batch; None for all.

    Raises:
        DependencyDown: the database or Redis does not answer.
    """
    count = 0
    while waiting := await outbox.take(
        [OutboxKind.DOORBELL], NOTIFICATIONS_AT_ONCE, NOTIFICATION_LEASE_S, batch_id
    ):
        failpoints.hit("relay.taken")
        for waiting_id in dict.fromkeys(row.batch_id for row in waiting):
            await doorbell.ring(waiting_id)
        failpoints.hit("relay.sent")
        await outbox.done([row.outbox_id for row in waiting])
        count += len(waiting)
        if len(waiting) < NOTIFICATIONS_AT_ONCE:
            break
    return count


def _with_subject(tenant_id: str, config: BatchConfig, subjects: Subjects) -> BatchConfig:
    """Returns the configuration with the key of its subject, and the name that may be stored."""
    subject_id = config.options.subject_id
    return replace(
        config,
        subject_key=subjects.key_of(tenant_id, subject_id),
        options=replace(config.options, subject_id=subjects.reference_of(tenant_id, subject_id)),
    )


def _token_after(batch: Batch) -> str:
    return token_of_moment(batch.create_time, batch.batch_id)
