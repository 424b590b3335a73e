"""Buckets of AWS, Google Cloud and Azure, opened with obstore.

Credentials are those that the provider's libraries find: environment variables (AWS_…, GOOGLE_…,
AZURE_…) or the machine's identity.  They belong to the operator and not to the caller.  So images
are read only from the buckets listed in a setting, and never from the bucket that holds the images
of all tenants.
"""

import os
import re
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
ENDPOINT = "CATEGORIZER_STORAGE__ENDPOINT"
# Variables from which obstore takes an address where none is given.
ADDRESSES = ("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AZURE_ENDPOINT")
MISSING_BUCKET = ("NoSuchBucket", "ContainerNotFound")
FIRST_RETRY_DELAY = timedelta(seconds=0.1)
MAX_RETRY_DELAY = timedelta(seconds=2)


class ObjectReader:
    """Reads images that callers name by URI, from the buckets listed in a setting."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._allowed = tuple(uri.rstrip("/") + "/" for uri in settings.fetch.buckets)
        # At most as many as the setting lists.
        self._stores: dict[tuple[str, str], Store] = {}

    async def read(self, uri: str, max_bytes: int) -> bytes:
        """Returns the object of an `s3://bucket/key`, `gs://bucket/key` or `az://container/key`.

        Raises:
            ImageUnreachable: the URI is malformed, the bucket is not listed, or there is no such
                object.
            ImageTooLarge: the object has more than `max_bytes`.
            DependencyDown: the bucket does not answer.
        """
        match = OBJECT_URI.fullmatch(uri)
        if not match or not uri.startswith(self._allowed):
            raise _unreachable(uri, "malformed, or the bucket is not listed")
        scheme, bucket, key = match[1], match[2], match[3]
        if bucket == self._settings.storage_bucket:
            raise _unreachable(uri, "the bucket holds the images of all tenants")
        try:
            return await read_object(self._store(scheme, bucket), key, max_bytes)
        except ValueError as error:
            raise _unreachable(uri, "the key is malformed") from error
        except OperatorError as error:
            log.warning("a bucket cannot be used", bucket=bucket, why=str(error))
            raise DependencyDown("the bucket does not answer") from None
        except (BaseError, OSError) as error:
            if is_missing(error):
                raise _unreachable(uri, "no such object") from error
            log.warning("a bucket does not answer", bucket=bucket, error=type(error).__name__)
            raise DependencyDown("the bucket does not answer") from error

    def _store(self, scheme: str, bucket: str) -> Store:
        if (scheme, bucket) not in self._stores:
            provider = SCHEMES[scheme]
            is_ours = provider == self._settings.cloud_provider
            endpoint = self._settings.storage.endpoint if is_ours else ""
            self._stores[scheme, bucket] = open_bucket(
                provider, bucket, self._settings.storage, endpoint
            )
        return self._stores[scheme, bucket]


def open_bucket(
    provider: str, bucket: str, settings: StorageSettings, endpoint: str = ""
) -> S3Store | GCSStore | AzureStore:
    """Returns a bucket. It connects on first use.

    Args:
        provider: `aws`, `gcp` or `azure`.
        bucket: name of the bucket, or of the container for Azure.
        settings: time limits and retries.
        endpoint: address to use instead of the provider's own. For gcp, set it in the key file.

    Raises:
        OperatorError: the environment does not hold what the provider needs, or the address uses
            http without the setting that allows it.
    """
    if provider != "gcp" and not settings.allow_http:
        _refuse_http(provider, endpoint)
    options: dict[str, Any] = {
        "client_options": {
            "timeout": timedelta(seconds=settings.timeout_s),
            "connect_timeout": timedelta(seconds=settings.connect_timeout_s),
            "allow_http": settings.allow_http,
        },
        "retry_config": {
            "max_retries": settings.max_retries,
            "retry_timeout": timedelta(seconds=settings.timeout_s),
            "backoff": {
                "init_backoff": FIRST_RETRY_DELAY,
                "max_backoff": MAX_RETRY_DELAY,
                "base": 2,
            },
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


def _refuse_http(provider: str, endpoint: str) -> None:
    """Raises OperatorError if the store's address uses http, which then fails at the first call."""
    addresses = {ENDPOINT: endpoint} if endpoint else {n: os.environ.get(n, "") for n in ADDRESSES}
    for name, address in addresses.items():
        if address.lower().startswith("http://") and name.startswith((ENDPOINT, provider.upper())):
            raise OperatorError(
                f"{name} starts with http://, which sends images and credentials unencrypted. "
                "Use https://, or allow it with CATEGORIZER_STORAGE__ALLOW_HTTP=true."
            )


async def read_object(store: Store, key: str, max_bytes: int) -> bytes:
    """Returns an object.

    Raises:
        FileNotFoundError: there is no such object.
        ImageTooLarge: the object has more than `max_bytes`.
        obstore.exceptions.BaseError, ValueError: the store does not answer, or refuses the key.
    """
    found = await store.get_async(key)
    if found.meta["size"] > max_bytes:
        raise ImageTooLarge.over(max_bytes)
    return bytes(await found.bytes_async())


def is_missing(error: Exception) -> bool:
    """Tells whether a store's error means that the object does not exist."""
    # obstore raises the same error for a missing bucket.  That is the operator's problem.
    return isinstance(error, FileNotFoundError) and not any(
        code in str(error) for code in MISSING_BUCKET
    )


def _unreachable(uri: str, reason: str) -> ImageUnreachable:
    # The caller must not learn which buckets exist; the reason is for the log.
    log.info("fetch failed", uri=uri[:200], reason=reason)
    return ImageUnreachable("the image cannot be fetched from its URI")
