"""Opens object stores by obstore: our own, and those whose images s3, gs and az URIs name.

Credentials are those that the provider's libraries take from the environment (AWS_…, GOOGLE_…,
AZURE_…) or from the machine's identity.  Since they are ours and not the caller's, only buckets
that a setting lists are read for callers, and never the one that keeps everybody's images.
"""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, MemoryStore, S3Store

from image_categorizer_server.errors import (
    DependencyDown,
    ImageTooLarge,
    ImageUnreachable,
    OperatorError,
)
from image_categorizer_server.settings import Settings
from image_categorizer_server.settings.storage import StorageSettings
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)

Store = S3Store | GCSStore | AzureStore | LocalStore | MemoryStore
SCHEMES = {"s3": "aws", "gs": "gcp", "az": "azure"}
OBJECT_URI = re.compile(r"(s3|gs|az)://([A-Za-z0-9][A-Za-z0-9._-]{1,254})/(.{1,1024})", re.ASCII)
MISSING_BUCKET = ("NoSuchBucket", "ContainerNotFound")
FIRST_PAUSE = timedelta(seconds=0.1)
LONGEST_PAUSE = timedelta(seconds=2)


def open_bucket(
    provider: str, bucket: str, settings: StorageSettings, endpoint: str = ""
) -> S3Store | GCSStore | AzureStore:
    """Returns a store in a cloud; connects on first use.

    Args:
        provider: `aws`, `gcp` or `azure`.
        bucket: its name; of a container for Azure.
        settings: time limits and tries.
        endpoint: where it is instead of the provider's own address; gcp has it in its key file.

    Raises:
        OperatorError: what the environment says of the provider does not suffice.
    """
    options: dict[str, Any] = {
        "client_options": {
            "timeout": timedelta(seconds=settings.timeout_s),
            "connect_timeout": timedelta(seconds=settings.connect_timeout_s),
            "allow_http": settings.allow_http,
        },
        "retry_config": {
            "max_retries": settings.max_retries,
            "retry_timeout": timedelta(seconds=settings.timeout_s),
            "backoff": {"init_backoff": FIRST_PAUSE, "max_backoff": LONGEST_PAUSE, "base": 2},
        },
    }
    try:
        if provider == "aws":
            if endpoint:
                options |= {"endpoint": endpoint, "virtual_hosted_style_request": False}
            return S3Store(bucket, **options)
        if provider == "azure":
            if endpoint:
                options["endpoint"] = endpoint
            return AzureStore(bucket, **options)
        return GCSStore(bucket, **options)
    except (BaseError, ValueError, OSError) as error:
        summary = str(error).partition("\n")[0]
        raise OperatorError(f"The {provider} bucket {bucket} cannot be used: {summary}.") from None


def open_store(settings: Settings) -> Store:
    """Returns the object store of `CLOUD_PROVIDER`.

    Raises:
        OperatorError: as `open_storage`.
    """
    own = settings.storage
    if settings.cloud_provider == "local":
        try:
            return LocalStore(own.path.expanduser().resolve(), mkdir=True)
        except (BaseError, OSError) as error:
            log.debug("no folder for images", error=str(error))
            raise OperatorError(
                f"Cannot keep images in {own.path}; set CATEGORIZER_STORAGE__PATH."
            ) from None
    if not settings.storage_bucket:
        raise OperatorError(
            f"CLOUD_PROVIDER is {settings.cloud_provider}: set STORAGE_BUCKET to the bucket's name."
        )
    return open_bucket(settings.cloud_provider, settings.storage_bucket, own, own.endpoint)


async def read_object(store: Store, key: str, max_bytes: int) -> bytes:
    """Returns an object.

    Raises:
        FileNotFoundError: there is none.
        ImageTooLarge: it has more than `max_bytes`.
        obstore.exceptions.BaseError, ValueError: the store does not answer, or refuses.
    """
    found = await store.get_async(key)
    if found.meta["size"] > max_bytes:
        raise too_large(max_bytes)
    return bytes(await found.bytes_async())


class Bounded:
    """Passes chunks on, up to so many bytes, and keeps what stopped them."""

    def __init__(self, chunks: AsyncIterator[bytes], max_bytes: int) -> None:
        self._chunks = chunks
        self._max_bytes = max_bytes
        self.size_bytes = 0
        self.failure: Exception | None = None

    def __aiter__(self) -> "Bounded":
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            raise
        except Exception as error:
            self.failure = error
            raise
        self.size_bytes += len(chunk)
        if self.size_bytes > self._max_bytes:
            self.failure = too_large(self._max_bytes)
            raise self.failure
        return chunk


class ObjectReader:
    """Reads the objects that URIs name, out of the buckets that a setting lists."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._allowed = [uri.rstrip("/") + "/" for uri in settings.fetch.buckets]
        self._stores: dict[tuple[str, str], Store] = {}

    async def read(self, uri: str, max_bytes: int) -> bytes:
        """Returns the object of an `s3://bucket/key`, `gs://bucket/key` or `az://container/key`.

        Raises:
            ImageUnreachable: not such a URI, a bucket that is not listed, no such object.
            ImageTooLarge: it has more than `max_bytes`.
            DependencyDown: the store does not answer.
        """
        match = OBJECT_URI.fullmatch(uri)
        if not match or not uri.startswith(tuple(self._allowed)):
            raise self._unreachable(uri, "malformed, or its bucket is not listed")
        scheme, bucket, key = match[1], match[2], match[3]
        if bucket == self._settings.storage_bucket:
            raise self._unreachable(uri, "its bucket keeps all tenants' images")
        try:
            return await read_object(self._store(scheme, bucket), key, max_bytes)
        except ValueError as error:
            raise self._unreachable(uri, "not a key") from error
        except (BaseError, OSError) as error:
            if is_missing(error):
                raise self._unreachable(uri, "no such object") from error
            log.warning("a bucket does not answer", bucket=bucket, error=type(error).__name__)
            raise DependencyDown("the bucket does not answer") from error

    def _store(self, scheme: str, bucket: str) -> Store:
        """Returns the store, opened once; there are as many as the setting lists."""
        if (scheme, bucket) not in self._stores:
            provider = SCHEMES[scheme]
            is_ours = provider == self._settings.cloud_provider
            endpoint = self._settings.storage.endpoint if is_ours else ""
            self._stores[scheme, bucket] = open_bucket(
                provider, bucket, self._settings.storage, endpoint
            )
        return self._stores[scheme, bucket]

    @staticmethod
    def _unreachable(uri: str, why: str) -> ImageUnreachable:
        log.info("fetch failed", uri=uri[:200], why=why)
        return ImageUnreachable("the image cannot be fetched from its URI")


def too_large(max_bytes: int) -> ImageTooLarge:
    """Returns the error for an image whose end was not waited for."""
    return ImageTooLarge(f"the image has more than {max_bytes} bytes")


def is_missing(error: Exception) -> bool:
    """Tells whether what a store raised means that it has no such object."""
    # To obstore a bucket that does not exist is just as absent; that is for the operator to mend.
    return isinstance(error, FileNotFoundError) and not any(
        code in str(error) for code in MISSING_BUCKET
    )


@contextmanager
def logged() -> Iterator[None]:
    """Logs what the store says, which callers are not told."""
    try:
        yield
    except (BaseError, OSError) as error:
        if not is_missing(error):
            log.warning("the image storage fails", error=str(error).partition("\n")[0][:300])
        raise
