"""A batch on its way in: images to the store, items to the database, page by page.

    item ─▶ page of items ─▶ COPY ─▶ … ─▶ all stored? ─▶ one transaction makes it a batch
      └─▶ to the store

Memory holds one page, the image that is being read, and as many bytes again of those being stored.
Until the last step nobody sees a batch; where an upload ends without it, its items are removed at
once, or, where the whole process ended, by a sweep.
"""

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Self

from image_categorizer_server.db import upload as rows
from image_categorizer_server.domain.batch import BatchConfig, BatchItem, ItemError
from image_categorizer_server.errors import (
    BatchTooLarge,
    CategorizerError,
    DependencyDown,
    ImageTooLarge,
    InvalidRequest,
    UndecodableImage,
)
from image_categorizer_server.services.puts import Puts
from image_categorizer_server.settings.batch import BatchSettings
from image_categorizer_server.stores.image_key import read_image
from image_categorizer_server.stores.object_store import Storage
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
PAGE_ITEMS = 1000
# An image whose item is not written yet is one that nobody finds when this process dies.
PAGE_S = 2.0
ID_BYTES = 24
BEATS = 4  # in the time of one lease


@dataclass(frozen=True, slots=True)
class NewItem:
    """One image of a batch that is being created: exactly one of the two is not None."""

    filename: str
    content: AsyncIterator[bytes] | None
    """The encoded image, piece by piece; what is not read of it does not matter."""
    image_uri: str | None


class Upload:
    """One batch on its way in; as a context manager it cleans up where it becomes none."""

    def __init__(
        self,
        tenant_id: str,
        config: BatchConfig,
        storage: Storage,
        settings: BatchSettings,
        max_image_bytes: int,
    ) -> None:
        self._tenant_id = tenant_id
        self._config = config
        self._storage = storage
        self._puts = Puts(storage, settings.max_concurrent_puts, max_image_bytes)
        self._settings = settings
        self._max_image_bytes = max_image_bytes
        self._batch_id = f"b-{secrets.token_urlsafe(ID_BYTES)}"
        self._page: list[tuple[BatchItem, ItemError | None]] = []
        self._page_since_s = time.monotonic()
        self._count = 0
        self._bytes = 0
        self._is_batch = False
        self._beating: asyncio.Task[None] | None = None
        how = [asdict(config.options), config.webhook_url, config.priority]
        self._hash = hashlib.sha256(json.dumps(how, sort_keys=True).encode())

    @property
    def request_sha256(self) -> str:
        """Of all that was asked for so far: 64 hexadecimal digits."""
        return self._hash.hexdigest()

    async def __aenter__(self) -> Self:
        try:
            await rows.begin_upload(self._tenant_id, self._batch_id, self._settings.upload_lease_s)
        except BaseException:  # a caller who leaves now may have been entered
            await asyncio.shield(asyncio.ensure_future(self._give_up()))
            raise
        self._beating = asyncio.create_task(self._beat())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._beating is not None
        self._beating.cancel()
        if not self._is_batch:
            # The caller may be gone: what it left is removed all the same.
            await asyncio.shield(asyncio.ensure_future(self._give_up()))

    async def add(self, item: NewItem) -> None:
        """Takes the next image.

        Raises:
            BatchTooLarge: the batch may not have it as well.
            DependencyDown: the database or the storage does not answer.
        """
        if self._count >= self._settings.max_items:
            raise BatchTooLarge(f"a batch has at most {self._settings.max_items} images")
        if item.content is None:
            row = BatchItem(self._count, item.filename, None, item.image_uri, None)
            await self._append(row, None, f"uri {item.image_uri}")
        else:
            await self._store(item.filename, item.content)

    async def _store(self, filename: str, content: AsyncIterator[bytes]) -> None:
        try:
            image = await read_image(self._tenant_id, _not_empty(content), self._max_image_bytes)
        except (ImageTooLarge, UndecodableImage) as error:
            row = BatchItem(self._count, filename, None, None, None)
            await self._append(row, _item_error(error), error.reason)
            return
        self._bytes += len(image.content)
        if self._bytes > self._settings.max_bytes:
            raise BatchTooLarge(f"a batch has at most {self._settings.max_bytes} bytes")
        row = BatchItem(self._count, filename, image.key, None, len(image.content))
        await self._append(row, None, image.sha256)
        await self._puts.put(image)

    async def _append(self, item: BatchItem, error: ItemError | None, content: str) -> None:
        self._hash.update(json.dumps([item.filename, content]).encode())
        self._count += 1
        self._page.append((item, error))
        is_late = time.monotonic() - self._page_since_s > PAGE_S
        if len(self._page) >= PAGE_ITEMS or is_late:
            await self._flush()

    async def _flush(self) -> None:
        if self._page:
            await rows.write_items(self._tenant_id, self._batch_id, self._page)
        self._page = []
        self._page_since_s = time.monotonic()

    async def accept(self, key_id: str) -> rows.Acceptance:
        """Makes the upload a batch, or finds the one that it repeats.

        Args:
            key_id: the API key that creates the batch.

        Raises:
            InvalidRequest: there are no images.
            DependencyDown: the database does not answer.
        """
        if not self._count:
            raise InvalidRequest.of([("items", "must hold at least one image")])
        await self._flush()
        await self._puts.end()
        await self._storage.flush()
        new = rows.NewBatch(
            batch_id=self._batch_id,
            tenant_id=self._tenant_id,
            key_id=key_id,
            config=self._config,
            request_sha256=self.request_sha256,
            item_count=self._count,
        )
        accepted = await rows.accept(new, self._settings.chunk_items, self._settings.request_id_s)
        self._is_batch = accepted.is_new
        return accepted

    async def _beat(self) -> None:
        """Says that the upload goes on, however slowly the images come."""
        lease_s = self._settings.upload_lease_s
        while True:
            await asyncio.sleep(lease_s / BEATS)
            try:
                if not await rows.extend_upload(self._batch_id, lease_s):
                    return  # given up: the next page is refused
            except DependencyDown as error:
                log.warning("an upload could not say that it goes on", why=error.message)

    async def _give_up(self) -> None:
        await self._puts.settle()  # what is stored after its removal would stay
        keys = [item.object_key for item, _ in self._page if item.object_key is not None]
        try:
            await rows.give_up_upload(self._tenant_id, self._batch_id, keys)
        except DependencyDown as error:
            log.warning("a broken upload is removed later", why=error.message)


async def _not_empty(content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yields the pieces; raises `UndecodableImage` where they hold nothing."""
    is_empty = True
    async for piece in content:
        is_empty = is_empty and not piece
        yield piece
    if is_empty:
        raise UndecodableImage("the file is empty")


def _item_error(error: CategorizerError) -> ItemError:
    return ItemError(error.status, error.reason, error.message)
