"""Where images are kept: one object store, on disk, in a cloud or in memory.

A key is the tenant, `images`, and the SHA-256 of the content: what is stored twice lies there once,
nothing that a user types becomes part of a path, and no tenant's key names another's image.
Whoever keeps a key in the database stores the image first; what no row names is swept later.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, MemoryStore, S3Store

from image_categorizer_server.errors import (
    DependencyDown,
    FailedPrecondition,
    NotFound,
)
from image_categorizer_server.settings import Settings
from image_categorizer_server.settings.storage import StorageSettings
from image_categorizer_server.stores.buckets import (
    Bounded,
    Store,
    is_missing,
    logged,
    open_store,
    read_object,
)
from image_categorizer_server.stores.disk import Disk

CHUNK_BYTES = 256 * 1024
PROBE_KEY = "probe"
NO_LIMIT = 2**63
# What was put and has made no progress for so long is being put by nobody.
UNFINISHED_S = 3600.0


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object as the store lists it."""

    key: str
    size_bytes: int
    modify_time: datetime
    """When it was stored last; with its zone."""


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request that whoever holds it may make to the store, without credentials."""

    method: Literal["GET", "PUT"]
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    """What the store asks to be sent with it."""


class Storage:
    """Keeps objects by key; each call has a deadline, and may be made again."""

    def __init__(self, store: Store, settings: StorageSettings, disk: Disk | None = None) -> None:
        """Keeps objects in a store.

        Args:
            store: where.
            settings: time limits.
            disk: what the store is on; None: it looks after what it has taken itself.
        """
        self._store = store
        self._settings = settings
        self._disk = disk

    async def put(self, key: str, content: bytes) -> None:
        """Keeps an object, in place of what the key held; it is there whole or not at all.

        What is there already is written anew.

        Raises:
            DependencyDown: the store does not answer.
        """
        async with self._answering():
            await self._store.put_async(key, content, use_multipart=False)

    async def flush(self) -> None:
        """Returns once nothing that was put before is lost by a power cut.

        Raises:
            DependencyDown: the disk fails.
        """
        if self._disk is not None and self._settings.flush:
            async with self._answering(has_deadline=False):
                await self._disk.flush()

    async def remove_unfinished(self) -> int:
        """Removes what processes that died were putting, an hour ago or longer; returns how much.

        Looks at every file where images are on disk, and at nothing elsewhere.

        Raises:
            DependencyDown: the disk fails.
        """
        if self._disk is None:
            return 0
        async with self._answering(has_deadline=False):
            return await self._disk.remove_unfinished(UNFINISHED_S)

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes], max_bytes: int) -> int:
        """Keeps an object whose chunks come one by one; returns its size in bytes.

        Without a deadline of its own, since the chunks may come as slowly as they like.

        Raises:
            ImageTooLarge: more than `max_bytes`; nothing was stored.
            DependencyDown: the store does not answer.
        """
        source = Bounded(chunks, max_bytes)
        async with self._answering(has_deadline=False):
            try:
                await self._store.put_async(key, source)
            except Exception:
                if not source.failure:
                    raise
        if source.failure:  # the source failed, and not the store
            raise source.failure
        return source.size_bytes

    async def get(self, key: str, max_bytes: int = NO_LIMIT) -> bytes:
        """Returns an object.

        Raises:
            NotFound: the key holds nothing.
            ImageTooLarge: more than `max_bytes`.
            DependencyDown: the store does not answer.
        """
        async with self._answering():
            return await read_object(self._store, key, max_bytes)

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        """Yields an object piece by piece; the deadline is for each piece.

        Raises:
            NotFound, DependencyDown: as `get`.
        """
        async with self._answering():
            pieces = (await self._store.get_async(key)).stream(CHUNK_BYTES).__aiter__()
        while True:
            async with self._answering():
                try:
                    piece = await anext(pieces)
                except StopAsyncIteration:
                    return
            yield bytes(piece)

    async def exists(self, key: str) -> bool:
        """Tells whether the key holds something.

        Raises:
            DependencyDown: the store does not answer.
        """
        try:
            async with self._answering():
                await self._store.head_async(key)
        except NotFound:
            return False
        return True

    async def delete(self, keys: Sequence[str]) -> None:
        """Deletes what the keys hold; keys that hold nothing are passed over.

        Raises:
            DependencyDown: the store does not answer; some may be gone.
        """
        for start in range(0, len(keys), self._settings.delete_batch):
            some = list(keys[start : start + self._settings.delete_batch])
            try:
                async with self._answering():
                    await self._store.delete_async(some)
            except NotFound:  # some stores end at the first that is missing
                for key in some:
                    await self._delete_one(key)

    async def _delete_one(self, key: str) -> None:
        try:
            async with self._answering():
                await self._store.delete_async(key)
        except NotFound:
            pass

    async def list(self, prefix: str = "") -> AsyncIterator[ListedObject]:
        """Yields what lies below a folder, such as `<tenant>/images`; the order is the store's.

        Raises:
            DependencyDown: the store does not answer; the deadline is for each page.
        """
        pages = self._store.list(prefix or None, chunk_size=1000).__aiter__()
        while True:
            async with self._answering():
                try:
                    page = await anext(pages)
                except StopAsyncIteration:
                    return
            for meta in page:
                yield ListedObject(meta["path"], meta["size"], meta["last_modified"])

    async def presign_get(self, key: str, expires_s: float) -> SignedRequest:
        """Returns a request that reads the object during the next `expires_s` seconds.

        Raises:
            FailedPrecondition: images are kept where nobody signs: on disk, in memory.
            DependencyDown: what signs does not answer.
        """
        return SignedRequest("GET", await self._sign("GET", key, expires_s))

    async def presign_put(self, key: str, expires_s: float) -> SignedRequest:
        """Returns a request that stores an object, of any size, during the next seconds.

        Raises:
            FailedPrecondition, DependencyDown: as `presign_get`.
        """
        url = await self._sign("PUT", key, expires_s)
        is_azure = isinstance(self._store, AzureStore)
        return SignedRequest("PUT", url, {"x-ms-blob-type": "BlockBlob"} if is_azure else {})

    async def _sign(self, method: Literal["GET", "PUT"], key: str, expires_s: float) -> str:
        if not isinstance(self._store, S3Store | GCSStore | AzureStore):
            raise FailedPrecondition("images are kept on the server: no store signs addresses")
        async with self._answering():
            return await obstore.sign_async(self._store, method, key, timedelta(seconds=expires_s))

    async def check(self) -> None:
        """Asks the store for a sign of life.

        Raises:
            DependencyDown: it does not answer.
        """
        async for _ in self.list(PROBE_KEY):  # asking for an object would not tell of a bucket
            pass

    @asynccontextmanager
    async def _answering(self, has_deadline: bool = True) -> AsyncIterator[None]:
        """Turns what the store raises into errors of ours, and waits for it only so long."""
        try:
            async with asyncio.timeout(self._settings.timeout_s if has_deadline else None):
                with logged():
                    yield
        except (BaseError, OSError) as error:
            if is_missing(error):
                raise NotFound("the image is not kept any more") from error
            raise DependencyDown("the image storage does not answer") from error


class MemoryStorage(Storage):
    """Keeps objects in this process only: for tests, and for trying things."""

    def __init__(self, settings: StorageSettings | None = None) -> None:
        super().__init__(MemoryStore(), settings or StorageSettings())


@asynccontextmanager
async def open_storage(settings: Settings) -> AsyncIterator[Storage]:
    """Yields the storage of `CLOUD_PROVIDER`; connects on first use.

    Raises:
        OperatorError: the folder cannot be made, or the bucket or credentials lack.
    """
    own = settings.storage
    is_local = settings.cloud_provider == "local"
    store = open_store(settings)
    yield Storage(store, own, Disk(own.path.expanduser().resolve()) if is_local else None)
