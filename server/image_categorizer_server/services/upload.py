"""Uploads: images go to the storage, items to the database, page by page.

    item ─▶ page of items ─▶ COPY ─▶ … ─▶ all stored? ─▶ one transaction makes it a batch
      └─▶ to the storage, several at a time

Memory holds one page, the image that is being read, and as many bytes again of images that are
being stored.  Nobody sees the batch before the last step.  If an upload ends without it, its items
are removed at once, or by a sweep if the whole process ended.
"""

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Self

from image_categorizer_server import failpoints
from image_categorizer_server.db import removal
from image_categorizer_server.db import upload as rows
from image_categorizer_server.domain.batch import BatchConfig, BatchItem, ItemError
from image_categorizer_server.domain.blur import Rectangle, rectangles_of
from image_categorizer_server.errors import (
    BatchTooLarge,
    DependencyDown,
    ImageTooLarge,
    InvalidRequest,
    UndecodableImage,
)
from image_categorizer_server.services.limit import BatchAdmission, Limiter
from image_categorizer_server.settings.batch import BatchSettings
from image_categorizer_server.stores.image_key import image_key
from image_categorizer_server.stores.object_store import Storage
from image_categorizer_server.tasks import TaskOwner, detached
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
PAGE_ITEMS = 1000
# While a page is being written, so many pages more may gather and then make the next one: on a slow
# database a batch takes few statements, however many images it has.
MAX_WAITING_PAGES = 10
# An image whose item is not written is lost if this process dies, until a sweep lists the storage.
PAGE_S = 2.0
ID_BYTES = 24
HEARTBEATS_PER_LEASE = 4
# How long the end of a broken upload may delay its caller.  The rest is done in the background.
CLEAN_UP_WAIT_S = 0.2
# How long an upload waits for the removal of an image of the same content: longer than the removal
# takes if its process dies and another one does it again.
MAX_REMOVAL_WAIT_S = 120.0
REMOVAL_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class NewItem:
    """One image of a batch that is being created: exactly one of the two is not None."""

    filename: str
    content: AsyncIterator[bytes] | None
    """The encoded image, piece by piece.  The reader may stop before its end."""
    image_uri: str | None
    blur: tuple[str, ...] = ()
    """What of it nobody may see, beside what the options say of all images."""


@dataclass(frozen=True, slots=True)
class IgnoredFile:
    """A file that an operating system added to a folder, and that is no image; see `Batch`."""

    filename: str


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image on its way to the storage."""

    key: str
    sha256: str
    """64 hexadecimal digits."""
    content: bytes

    @classmethod
    def of(cls, tenant_id: str, content: bytes, subject_key: str) -> Self:
        """Returns an image with its key, which depends on all of its content, and the subject."""
        sha256 = hashlib.sha256(content).hexdigest()
        return cls(image_key(tenant_id, sha256, subject_key), sha256, content)


@dataclass(frozen=True, slots=True)
class Intake:
    """How the images of an upload are taken in."""

    max_image_bytes: int
    """Of one encoded image."""
    page_items: int = PAGE_ITEMS
    """How many items are written at once."""
    blurred: Callable[[bytes, Sequence[Rectangle]], bytes] | None = None
    """Returns an encoded image without what nobody may see; called in a thread.  None where no
    batches are created."""


class Upload:
    """One batch during its upload; as a context manager it cleans up unless it became a batch."""

    def __init__(
        self,
        tenant_id: str,
        config: BatchConfig,
        storage: Storage,
        settings: BatchSettings,
        intake: Intake,
    ) -> None:
        self._tenant_id = tenant_id
        self._config = config
        self._storage = storage
        self._settings = settings
        self._intake = intake
        self._batch_id = f"b-{secrets.token_urlsafe(ID_BYTES)}"
        self._uploads = ConcurrentUploads(
            storage, settings.max_concurrent_writes, intake.max_image_bytes
        )
        self._tasks = TaskOwner()
        self._page: list[rows.UploadItem] = []
        self._page_since_s = time.monotonic()
        self._writing: asyncio.Task[None] | None = None
        self._unwritten: list[rows.UploadItem] = []
        """Items that are being written, until that has succeeded."""
        self._count = 0
        self._ignored_count = 0
        self._bytes = 0
        self._is_batch = False
        self._is_given_up = False
        self._removing: frozenset[str] = frozenset()
        """Keys of images that were being removed when the upload began."""
        how = [asdict(config.options), config.webhook_url, config.priority]
        self._hash = hashlib.sha256(json.dumps(how, sort_keys=True).encode())

    @property
    def request_sha256(self) -> str:
        """Hash of the configuration and of all images so far: 64 hexadecimal digits."""
        return self._hash.hexdigest()

    async def __aenter__(self) -> Self:
        lease_s = self._settings.upload_lease_s
        # To its end, even if the caller is cancelled: it may be registered all the same.
        self._beginning = detached(
            rows.begin_upload(self._tenant_id, self._batch_id, lease_s, self._config.subject_key)
        )
        try:
            self._removing = await asyncio.shield(self._beginning)
        except BaseException:
            await self._clean_up()
            raise
        self._tasks.start(self._keep_lease(), "heartbeat of an upload")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._clean_up()

    async def _clean_up(self) -> None:
        """Removes what a broken upload leaves; in the background if that takes long.

        Its caller gets its answer by its deadline, however slow the database is.  If this process
        ends before, the lease of the upload ends, and a sweep removes it.
        """
        await asyncio.wait({detached(self._close())}, timeout=CLEAN_UP_WAIT_S)

    async def _close(self) -> None:
        await self._tasks.close()
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait({self._writing})
        if not self._is_batch:
            await asyncio.wait({self._beginning})
            await self._give_up()

    async def _give_up(self) -> None:
        await self._uploads.wait()  # an image that is stored after its removal would stay
        items = self._unwritten + self._page
        keys = [item.object_key for item, _ in items if item.object_key is not None]
        try:
            await rows.give_up_upload(self._tenant_id, self._batch_id, keys)
        except DependencyDown as error:
            log.warning("a broken upload will be removed later", why=error.message)

    async def _keep_lease(self) -> None:
        """Extends the upload's lease, however slowly the images arrive."""
        lease_s = self._settings.upload_lease_s
        while True:
            await asyncio.sleep(lease_s / HEARTBEATS_PER_LEASE)
            try:
                if not await rows.extend_upload(self._batch_id, lease_s):
                    self._is_given_up = True
                    return
            except DependencyDown as error:
                log.warning("the lease of an upload was not extended", why=error.message)

    async def add(self, item: NewItem | IgnoredFile) -> None:
        """Adds the next image, or counts a file that becomes none.

        Raises:
            BatchTooLarge: the batch has its maximum number of images or bytes.
            DependencyDown: the database or the storage does not answer, or the upload was silent
                for too long, or its subject was erased.
        """
        if self._is_given_up:
            raise DependencyDown(rows.GIVEN_UP)
        if isinstance(item, IgnoredFile):
            self._ignored_count += 1
            return
        if self._count >= self._settings.max_items:
            raise BatchTooLarge(f"a batch has at most {self._settings.max_items} images")
        blur = (*self._config.options.blur, *item.blur)
        rectangles = rectangles_of(blur)
        if item.content is None:
            kept = blur if self._config.options.store else ()
            row = BatchItem(self._count, item.filename, None, item.image_uri, None, kept)
            await self._append(row, None, " ".join(["uri", str(item.image_uri), *kept]))
        else:
            await self._store(item.filename, item.content, rectangles)

    async def _store(
        self, filename: str, content: AsyncIterator[bytes], blur: Sequence[Rectangle]
    ) -> None:
        tenant_id, subject_key = self._tenant_id, self._config.subject_key
        try:
            image = await read_image(tenant_id, content, self._intake.max_image_bytes, subject_key)
        except (ImageTooLarge, UndecodableImage) as error:
            await self._refuse(filename, error)
            return
        if blur:
            assert self._intake.blurred is not None, "whoever creates batches has it"
            try:
                clean = await asyncio.to_thread(self._intake.blurred, image.content, blur)
            except InvalidRequest as error:  # of this image: it cannot be decoded, or is smaller
                await self._refuse(filename, error)
                return
            image = StoredImage.of(tenant_id, clean, subject_key)
        self._bytes += len(image.content)
        if self._bytes > self._settings.max_bytes:
            raise BatchTooLarge(f"a batch has at most {self._settings.max_bytes} bytes")
        row = BatchItem(self._count, filename, image.key, None, len(image.content))
        await self._append(row, None, image.sha256)
        await self._until_removed(image.key)
        await self._uploads.put(image)

    async def _refuse(self, filename: str, error: InvalidRequest) -> None:
        """Adds an item that fails at once."""
        row = BatchItem(self._count, filename, None, None, None)
        refusal = ItemError(error.status, error.reason, error.message)
        await self._append(row, refusal, error.reason)

    async def _until_removed(self, key: str) -> None:
        """Waits while an image of the same content is being removed: ours would go with it."""
        if key not in self._removing:
            return
        try:
            async with asyncio.timeout(MAX_REMOVAL_WAIT_S):
                while await removal.is_removing(self._tenant_id, key):  # noqa: ASYNC110 - a row
                    await asyncio.sleep(REMOVAL_POLL_S)
        except TimeoutError:
            raise DependencyDown("an earlier copy of an image is still being removed") from None
        self._removing -= {key}

    async def _append(self, item: BatchItem, error: ItemError | None, content: str) -> None:
        self._hash.update(json.dumps([item.filename, content]).encode())
        self._count += 1
        self._page.append((item, error))
        is_late = time.monotonic() - self._page_since_s > PAGE_S
        if len(self._page) < self._intake.page_items and not is_late:
            return
        is_writing = self._writing is not None and not self._writing.done()
        if not is_writing or len(self._page) >= MAX_WAITING_PAGES * self._intake.page_items:
            await self._flush()

    async def _flush(self) -> None:
        """Begins to write the items that wait, as soon as the page before is written."""
        await self._written()
        self._unwritten, self._page = self._page, []
        self._page_since_s = time.monotonic()
        if self._unwritten:
            write = rows.write_items(self._tenant_id, self._batch_id, self._unwritten)
            self._writing = detached(write)

    async def _written(self) -> None:
        """Waits until no page is being written."""
        if self._writing is not None:
            await asyncio.wait({self._writing})
            self._writing.result()
        self._tasks.check()
        self._unwritten = []

    async def accept(self, key_id: str, limiter: Limiter | None = None) -> rows.Acceptance:
        """Makes the upload a batch, or finds the batch that it repeats.

        Args:
            key_id: the API key that creates the batch.
            limiter: knows the quotas of the tenant; None for none.

        Raises:
            InvalidRequest: there are no images.
            QuotaExceeded: the batch exceeds a quota.
            DependencyDown: the database or the storage does not answer.
        """
        if not self._count:
            raise InvalidRequest.of([("items", "must hold at least one image")])
        await self._flush()
        await self._written()
        await self._uploads.finish()
        await self._storage.flush()
        new = rows.NewBatch(
            batch_id=self._batch_id,
            tenant_id=self._tenant_id,
            key_id=key_id,
            config=self._config,
            request_sha256=self.request_sha256,
            item_count=self._count,
            ignored_count=self._ignored_count,
            image_bytes=self._bytes,
        )
        settings = self._settings
        accepted = await rows.accept(
            new,
            settings.chunk_items,
            settings.request_id_s,
            BatchAdmission(limiter, self._tenant_id, self._bytes) if limiter else None,
        )
        self._is_batch = accepted.is_new
        return accepted


class ConcurrentUploads:
    """Stores images of one upload concurrently, bounded by their number and their bytes.

    A storage that takes 30 ms for each image stores 32 a second one by one, and 480 with sixteen at
    a time.
    """

    def __init__(self, storage: Storage, max_count: int, max_bytes: int) -> None:
        """Configures the uploads.

        Args:
            storage: keeps the images.
            max_count: the maximum number of images that are being stored at a time.
            max_bytes: the maximum sum of their sizes; a single image may be larger.
        """
        self._storage = storage
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._tasks = TaskOwner()
        self._count = 0
        self._bytes = 0
        self._failure: Exception | None = None
        self._changed = asyncio.Condition()

    async def put(self, image: StoredImage) -> None:
        """Starts to store an image as soon as the limits allow.

        Raises:
            DependencyDown: the storage failed for an earlier image.
        """
        size = len(image.content)
        await self._until(
            lambda: (
                not self._count
                or (self._count < self._max_count and self._bytes + size <= self._max_bytes)
            )
        )
        self._count += 1
        self._bytes += size
        self._tasks.start(self._store(image), "upload of an image")

    async def finish(self) -> None:
        """Waits until all images are stored.

        Raises:
            DependencyDown: the storage failed for one of them.
        """
        await self._until(lambda: not self._count)

    async def wait(self) -> None:
        """Waits until no image is being stored any more, whether it succeeded or failed."""
        await self._tasks.wait()

    async def _until(self, is_true: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._failure is not None or is_true())
        if self._failure is not None:
            raise self._failure

    async def _store(self, image: StoredImage) -> None:
        try:
            await self._storage.put(image.key, image.content)
            failpoints.hit("blob.stored")
        except Exception as error:  # noqa: BLE001 - raised by `put` or `finish`
            self._failure = self._failure or error
        finally:
            self._count -= 1
            self._bytes -= len(image.content)
            async with self._changed:
                self._changed.notify_all()


async def read_image(
    tenant_id: str, pieces: AsyncIterator[bytes], max_bytes: int, subject_key: str = ""
) -> StoredImage:
    """Reads a whole image into memory; its key depends on all of its content, and on the subject.

    Raises:
        ImageTooLarge: the image has more than `max_bytes`; the rest is not read.
        UndecodableImage: the image is empty.
    """
    content = bytearray()
    digest = hashlib.sha256()
    async for piece in pieces:
        if len(content) + len(piece) > max_bytes:
            raise ImageTooLarge.over(max_bytes)
        content += piece
        digest.update(piece)
    if not content:
        raise UndecodableImage("the file is empty")
    sha256 = digest.hexdigest()
    return StoredImage(image_key(tenant_id, sha256, subject_key), sha256, bytes(content))
