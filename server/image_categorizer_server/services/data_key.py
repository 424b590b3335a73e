"""Data keys: made on first use, remembered for a minute, re-encrypted, erased."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from uuid import uuid4

from cachetools import TTLCache

from image_categorizer_server import clock
from image_categorizer_server.access.key_encryption import KeyEncryption, key_encryption
from image_categorizer_server.db import data_key as rows
from image_categorizer_server.domain.data_key import WHOLE_TENANT, DataKey, WrappedKey
from image_categorizer_server.errors import DependencyDown, OperatorError
from image_categorizer_server.settings.encryption import EncryptionSettings
from image_categorizer_server.stores.sealing import Sealer
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
SECRET_BYTES = 32
CACHED_KEYS = 10_000
# An erased key works that long in processes that have used it.
CACHE_S = 60.0


class TenantKeys:
    """The data keys of all tenants, in the database."""

    def __init__(self, encryption: KeyEncryption, cache_s: float = CACHE_S) -> None:
        """Configures the keys.

        Args:
            encryption: encrypts them.
            cache_s: how long a key is remembered, in seconds.
        """
        self._encryption = encryption
        self._current: TTLCache[tuple[str, str], DataKey] = TTLCache(CACHED_KEYS, ttl=cache_s)
        self._found: TTLCache[tuple[str, str], DataKey] = TTLCache(CACHED_KEYS, ttl=cache_s)

    async def current(self, tenant_id: str, subject_key: str = WHOLE_TENANT) -> DataKey:
        """Returns the key that encrypts what a tenant stores about a subject; makes the first.

        Raises:
            DependencyDown: the database does not answer, or the key cannot be unwrapped.
        """
        name = tenant_id, subject_key
        if known := self._current.get(name):
            return known
        found = await rows.find_of_tenant(*name)
        if found is None:
            with _unusable_keys_down():
                new = await self._new(*name)
            await rows.insert_if_first(new, clock.now())
            found = await rows.find_of_tenant(*name)
        if found is None:
            raise DependencyDown("the keys of stored images were erased meanwhile")
        self._current[name] = key = await self._unwrapped(found)
        return key

    async def find(self, tenant_id: str, data_key_id: str) -> DataKey | None:
        """Returns a key of a tenant; None if it was erased.

        Raises:
            DependencyDown: the database does not answer, or the key cannot be unwrapped.
        """
        name = tenant_id, data_key_id
        if known := self._found.get(name):
            return known
        found = await rows.find(*name)
        if found is None:
            return None
        self._found[name] = key = await self._unwrapped(found)
        return key

    async def rewrap(self) -> int:
        """Encrypts all data keys by the current key-encryption key; returns how many were not.

        Raises:
            OperatorError: a key-encryption key is missing; earlier data keys are done.
            DependencyDown: the database does not answer.
        """
        changed = 0
        for old in await rows.others(self._encryption.current_id):
            secret = await self._encryption.unwrap(old.kek_id, old.wrapped, _context(old))
            changed += await rows.replace_wrapped(
                old, await self._wrapped(old, secret), clock.now()
            )
        return changed

    async def _new(self, tenant_id: str, subject_key: str) -> WrappedKey:
        key = WrappedKey(uuid4().hex, tenant_id, subject_key, "", b"")
        return await self._wrapped(key, os.urandom(SECRET_BYTES))

    async def _wrapped(self, key: WrappedKey, secret: bytes) -> WrappedKey:
        wrapped = await self._encryption.wrap(secret, _context(key))
        return replace(key, kek_id=self._encryption.current_id, wrapped=wrapped)

    async def _unwrapped(self, key: WrappedKey) -> DataKey:
        with _unusable_keys_down():
            secret = await self._encryption.unwrap(key.kek_id, key.wrapped, _context(key))
        return DataKey(key.data_key_id, secret)


def open_sealer(settings: EncryptionSettings) -> Sealer:
    """Returns what encrypts stored images, if the settings name keys.

    Raises:
        OperatorError: the keys cannot be read.
    """
    encryption = key_encryption(settings)
    return Sealer(TenantKeys(encryption) if encryption else None)


async def rewrap(settings: EncryptionSettings) -> int:
    """Encrypts all data keys by the first key of the settings; returns how many were not.

    Raises:
        OperatorError: encryption is off, or a key is missing.
        DependencyDown: the database does not answer.
    """
    return await TenantKeys(_required(settings)).rewrap()


async def check(settings: EncryptionSettings) -> Sequence[tuple[str, str]]:
    """Uses each key of the settings once. Returns its name, and what is wrong with it or nothing.

    Raises:
        OperatorError: encryption is off, or a key cannot be opened.
    """
    return await _required(settings).check()


async def erase(tenant_id: str) -> int:
    """Deletes the data keys of a tenant, and with them all its stored images, in backups too.

    Returns how many keys there were.

    Raises:
        DependencyDown: the database does not answer.
    """
    return await rows.erase(tenant_id, clock.now())


def _required(settings: EncryptionSettings) -> KeyEncryption:
    encryption = key_encryption(settings)
    if encryption is None:
        raise OperatorError("Encryption is off: set CATEGORIZER_ENCRYPTION__KEYS_PATH.")
    return encryption


@contextmanager
def _unusable_keys_down() -> Iterator[None]:
    """Tells callers that a dependency is down, and the operator why."""
    try:
        yield
    except OperatorError as error:
        log.error("a data key cannot be used", error=str(error))  # noqa: TRY400 - says it all
        raise DependencyDown("the keys of stored images cannot be used") from error


def _context(key: WrappedKey) -> bytes:
    """Returns what a wrapped key is bound to: nobody can put it in another's row."""
    return f"{key.data_key_id}\0{key.tenant_id}\0{key.subject_id}".encode()
