"""Stores images on disk, in a cloud bucket or in memory.

Keys come from `image_key`.  An image is stored before a row in the database refers to it.  Images
that no row refers to are removed later.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, MemoryStore, S3Store

from image_categorizer_server.errors import (
    DependencyDown,
    FailedPrecondition,
    ImageTooLarge,
    NotFound,
    OperatorError,
)
from image_categorizer_server.settings import Settings
from image_categorizer_server.settings.storage import StorageSettings
from image_categorizer_server.stores.buckets import Store, is_missing, open_bucket, read_object
from image_categorizer_server.stores.disk import Disk
from image_categorizer_server.stores.sealing import OVERHEAD_BYTES, Sealer
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)

CHUNK_BYTES = 256 * 1024
LIST_PAGE = 1000
PROBE_KEY = "probe"
NO_LIMIT = 2**63
# A write that has made no progress for this long was interrupted by a crash.
UNFINISHED_AFTER_S = 3600.0


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object in a listing."""

    key: str
    size_bytes: int
    modify_time: datetime
    """When it was last written, with its time zone."""


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request to the store that needs no credentials: anyone who has it may send it."""

    method: Literal["GET", "PUT"]
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    """Headers that the request must carry."""


class Storage:
    """Stores objects by key. Every call has a deadline and is idempotent."""

    def __init__(
        self,
        store: Store,
        settings: StorageSettings,
        disk: Disk | None = None,
        sealer: Sealer | None = None,
    ) -> None:
        """Wraps a store.

        Args:
            store: holds the objects.
            settings: time limits.
            disk: the disk under the store; None if the store itself makes writes durable.
            sealer: encrypts what is stored; None for no encryption.
        """
        self._store = store
        self._settings = settings
        self._disk = disk
        self._sealer = sealer or Sealer()

    @property
    def sealer(self) -> Sealer:
        """What encrypts the objects, and what the database holds of results."""
        return self._sealer

    async def put(self, key: str, content: bytes, content_type: str = "") -> None:
        """Stores an object and replaces the previous one. It is there whole or not at all.

        Rewrites the object even if its content is the same: the new time of the write protects it
        from removal.

        Args:
            key: of the object.
            content: the object.
            content_type: what a bucket tells those who read the object by a signed URL.

        Raises:
            DependencyDown: the store does not answer.
        """
        stored = await self._sealer.seal(key, content)
        # Files have no attributes, and what is encrypted has another type.
        is_read = (
            isinstance(self._store, S3Store | GCSStore | AzureStore) and not self._sealer.is_on
        )
        attributes = {"Content-Type": content_type} if content_type and is_read else None
        async with self._call():
            await self._store.put_async(key, stored, attributes=attributes, use_multipart=False)

    async def create(self, key: str, content: bytes) -> bool:
        """Stores an object unless there is one with this key; returns whether it did.

        Raises:
            DependencyDown: the store does not answer.
        """
        stored = await self._sealer.seal(key, content)
        try:
            async with self._call():
                await self._store.put_async(key, stored, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return False
        return True

    async def flush(self) -> None:
        """Returns once all earlier puts survive a power failure.

        Raises:
            DependencyDown: the disk fails.
        """
        if self._disk is not None and self._settings.flush:
            with _disk_errors():
                await self._disk.flush()

    async def remove_unfinished(self) -> int:
        """Removes what crashed processes left behind more than an hour ago; returns the number.

        Looks at every file if images are on disk. Cloud stores need no such cleaning.

        Raises:
            DependencyDown: the disk fails.
        """
        if self._disk is None:
            return 0
        with _disk_errors():
            return await self._disk.remove_unfinished(UNFINISHED_AFTER_S)

    async def get(self, key: str, max_bytes: int = NO_LIMIT) -> bytes:
        """Returns an object.

        Raises:
            NotFound: there is no such object.
            ImageTooLarge: the object has more than `max_bytes`.
            DependencyDown: the store does not answer.
        """
        async with self._call():
            stored = await read_object(self._store, key, max_bytes + OVERHEAD_BYTES)
        content = await self._sealer.open(key, stored)
        if len(content) > max_bytes:
            raise ImageTooLarge.over(max_bytes)
        return content

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        """Yields an object in chunks. The deadline applies to each chunk.

        An encrypted object is read whole before: nothing of it is known to be right earlier.

        Raises:
            NotFound: there is no such object.
            DependencyDown: the store does not answer.
        """
        if self._sealer.is_on:
            content = await self.get(key)
            for start in range(0, len(content), CHUNK_BYTES):
                yield content[start : start + CHUNK_BYTES]
            return
        async with self._call():
            chunks = (await self._store.get_async(key)).stream(CHUNK_BYTES).__aiter__()
        while True:
            async with self._call():
                try:
                    chunk = await anext(chunks)
                except StopAsyncIteration:
                    return
            yield bytes(chunk)

    async def exists(self, key: str) -> bool:
        """Tells whether there is an object with this key.

        Raises:
            DependencyDown: the store does not answer.
        """
        try:
            async with self._call():
                await self._store.head_async(key)
        except NotFound:
            return False
        return True

    async def delete(self, keys: Sequence[str]) -> None:
        """Deletes objects. Ignores keys without an object.

        Raises:
            DependencyDown: the store does not answer. Some objects may be gone.
        """
        for start in range(0, len(keys), self._settings.delete_batch):
            some = list(keys[start : start + self._settings.delete_batch])
            try:
                async with self._call():
                    await self._store.delete_async(some)
            except NotFound:  # some stores stop at the first key without an object
                for key in some:
                    await self._delete_one(key)

    async def remove_folder(self, folder: str) -> None:
        """Removes an empty folder from the disk, with the files of interrupted writes in it.

        Cloud stores have no folders: an object appears once it is whole, and every write is one
        request, so no parts of it are left.

        Raises:
            DependencyDown: the disk fails.
        """
        if self._disk is not None:
            with _disk_errors():
                await self._disk.remove_folder(folder)

    async def _delete_one(self, key: str) -> None:
        try:
            async with self._call():
                await self._store.delete_async(key)
        except NotFound:
            pass

    async def list(self, prefix: str = "") -> AsyncIterator[ListedObject]:
        """Yields the objects in a folder such as `<tenant>/images`, in no particular order.

        Raises:
            DependencyDown: the store does not answer. The deadline applies to each page.
        """
        pages = self._store.list(prefix or None, chunk_size=LIST_PAGE).__aiter__()
        while True:
            async with self._call():
                try:
                    page = await anext(pages)
                except StopAsyncIteration:
                    return
            for meta in page:
                yield ListedObject(meta["path"], meta["size"], meta["last_modified"])

    async def presign_get(self, key: str, expires_s: float) -> SignedRequest:
        """Returns a request that reads an object and is valid for `expires_s` seconds.

        Raises:
            FailedPrecondition: images are on disk or in memory, which sign nothing.
            DependencyDown: the signing service does not answer.
        """
        return SignedRequest("GET", await self._sign("GET", key, expires_s))

    async def presign_put(self, key: str, expires_s: float) -> SignedRequest:
        """Returns a request that stores an object of any size and is valid for `expires_s` seconds.

        Raises:
            FailedPrecondition: images are on disk or in memory, which sign nothing.
            DependencyDown: the signing service does not answer.
        """
        url = await self._sign("PUT", key, expires_s)
        is_azure = isinstance(self._store, AzureStore)
        return SignedRequest("PUT", url, {"x-ms-blob-type": "BlockBlob"} if is_azure else {})

    async def _sign(self, method: Literal["GET", "PUT"], key: str, expires_s: float) -> str:
        if not isinstance(self._store, S3Store | GCSStore | AzureStore):
            raise FailedPrecondition("images are stored on the server, which signs no URLs")
        if self._sealer.is_on:
            raise FailedPrecondition("images are encrypted by the server, so no URLs are signed")
        async with self._call():
            return await obstore.sign_async(self._store, method, key, timedelta(seconds=expires_s))

    async def check(self) -> None:
        """Passes if the store answers.

        Raises:
            DependencyDown: the store does not answer.
        """
        # A listing, because reading an object cannot tell a missing object from a missing bucket.
        async for _ in self.list(PROBE_KEY):
            pass

    @asynccontextmanager
    async def _call(self) -> AsyncIterator[None]:
        """Limits the time of one call, and converts the store's errors to ours."""
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                yield
        except AlreadyExistsError:
            raise
        except (BaseError, OSError) as error:
            if is_missing(error):
                raise NotFound("the image is no longer stored") from error
            raise _down(error) from error


class MemoryStorage(Storage):
    """Stores objects in this process only: for tests and experiments."""

    def __init__(
        self, settings: StorageSettings | None = None, sealer: Sealer | None = None
    ) -> None:
        super().__init__(MemoryStore(), settings or StorageSettings(), sealer=sealer)


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _down(error) from error


def _down(error: Exception) -> DependencyDown:
    # The details are for the log: callers must not learn how images are stored.
    log.warning("the image storage fails", error=repr(error).partition("\\n")[0][:300])
    return DependencyDown("the image storage does not answer")


@asynccontextmanager
async def open_storage(settings: Settings, sealer: Sealer | None = None) -> AsyncIterator[Storage]:
    """Yields the storage that `CLOUD_PROVIDER` selects. It connects on first use.

    Args:
        settings: of the storage.
        sealer: encrypts what is stored; None for no encryption.

    Raises:
        OperatorError: the folder cannot be created, or the bucket or its credentials are missing.
    """
    own = settings.storage
    if settings.cloud_provider != "local":
        if not settings.storage_bucket:
            raise OperatorError(
                f"CLOUD_PROVIDER is {settings.cloud_provider}: "
                "set STORAGE_BUCKET to the name of the bucket."
            )
        bucket = open_bucket(settings.cloud_provider, settings.storage_bucket, own, own.endpoint)
        yield Storage(bucket, own, sealer=sealer)
        return
    folder = own.path.expanduser().resolve()
    try:
        store = LocalStore(folder, mkdir=True)
    except (BaseError, OSError) as error:
        log.debug("cannot create the folder for images", error=str(error))
        raise OperatorError(
            f"Cannot store images in {own.path}; set CATEGORIZER_STORAGE__PATH."
        ) from None
    yield Storage(store, own, Disk(folder), sealer)
