"""Encrypts what is stored: AES-256-GCM by a data key of the tenant, bound to the object's key.

What is stored about a subject has a data key of its own.  Results of batches are encrypted in the
same way, in the database: their keys name the batch and the item.

A sealed object is `MAGIC`, the id of the data key (16 bytes), a nonce (12 bytes), and the encrypted
content with its tag (16 bytes).  Objects that were stored before are read as they are, if their
content has the digest that their key says: nobody can put another in the place of a sealed one.
"""

import asyncio
import hashlib
import os
from collections.abc import Callable
from functools import partial
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from image_categorizer_server.domain.data_key import DataKey
from image_categorizer_server.errors import NotFound
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
MAGIC = b"\x00icseal1"
ID_BYTES, NONCE_BYTES, TAG_BYTES = 16, 12, 16
HEAD_BYTES = len(MAGIC) + ID_BYTES + NONCE_BYTES
OVERHEAD_BYTES = HEAD_BYTES + TAG_BYTES
# Below it, a thread costs more than the encryption: about 0.1 ms.
INLINE_BYTES = 256 * 1024
LOST = "the image is no longer stored"


class DataKeys(Protocol):
    """Where data keys come from."""

    async def current(self, tenant_id: str, subject_key: str) -> DataKey:
        """Returns the key that encrypts what a tenant stores about a subject, or about nobody.

        Raises:
            DependencyDown: the keys cannot be read.
        """
        ...

    async def find(self, tenant_id: str, data_key_id: str) -> DataKey | None:
        """Returns a key of a tenant; None if there is none any more.

        Raises:
            DependencyDown: the keys cannot be read.
        """
        ...


class Sealer:
    """Encrypts and decrypts objects; without data keys, it passes them as they are."""

    def __init__(self, keys: DataKeys | None = None) -> None:
        self._keys = keys

    @property
    def is_on(self) -> bool:
        """Whether objects are encrypted."""
        return self._keys is not None

    async def seal(self, key: str, content: bytes) -> bytes:
        """Returns what is stored of an object.

        Args:
            key: of the object; the tenant comes first in it.
            content: of the object.

        Raises:
            DependencyDown: the data keys cannot be read.
        """
        if self._keys is None or _is_open(key):
            return content
        data_key = await self._keys.current(_tenant_of(key), _subject_of(key))
        head = MAGIC + bytes.fromhex(data_key.data_key_id)
        work = partial(_encrypt, data_key.secret, head, key, content)
        return await _run(len(content), work)

    async def open(self, key: str, stored: bytes) -> bytes:
        """Returns the content of an object.

        Raises:
            NotFound: its data key was erased, or it is not the object that was stored by this key.
            DependencyDown: the data keys cannot be read.
        """
        if _is_open(key):
            return stored
        if not stored.startswith(MAGIC):
            if self.is_on and not _is_content_of(key, stored):
                log.warning("an object is not what its key says", key=key)
                raise NotFound(LOST)
            return stored
        data_key_id = stored[len(MAGIC) : len(MAGIC) + ID_BYTES].hex()
        if self._keys is None:
            log.warning("an object is encrypted, but CATEGORIZER_ENCRYPTION__… is not set", key=key)
            raise NotFound(LOST)
        data_key = await self._keys.find(_tenant_of(key), data_key_id)
        if data_key is None:
            raise NotFound(LOST)
        try:
            work = partial(_decrypt, data_key.secret, key, stored)
            return await _run(len(stored), work)
        except (InvalidTag, ValueError):  # the latter if it is too short
            log.warning("an object was damaged, or moved from another key", key=key)
            raise NotFound(LOST) from None


def _is_open(key: str) -> bool:
    """Returns whether an object belongs to no tenant, such as the signed heads of the audit.

    These must stay readable when the keys of a tenant are erased.
    """
    return key.startswith("_")


def _tenant_of(key: str) -> str:
    return key.partition("/")[0]


def _subject_of(key: str) -> str:
    """Returns the key of the subject that an object is about; see `image_key`."""
    parts = key.split("/", 3)
    return parts[2] if len(parts) == 4 and parts[1] == "subjects" else ""


def _is_content_of(key: str, content: bytes) -> bool:
    return key.endswith(hashlib.sha256(content).hexdigest())


async def _run(size_bytes: int, work: Callable[[], bytes]) -> bytes:
    return work() if size_bytes <= INLINE_BYTES else await asyncio.to_thread(work)


def _encrypt(secret: bytes, head: bytes, key: str, content: bytes) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return head + nonce + AESGCM(secret).encrypt(nonce, content, head + key.encode())


def _decrypt(secret: bytes, key: str, stored: bytes) -> bytes:
    head, nonce = stored[: HEAD_BYTES - NONCE_BYTES], stored[HEAD_BYTES - NONCE_BYTES : HEAD_BYTES]
    view = memoryview(stored)[HEAD_BYTES:]
    return AESGCM(secret).decrypt(nonce, view, head + key.encode())
