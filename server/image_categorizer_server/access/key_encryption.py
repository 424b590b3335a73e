"""Key-encryption keys: they encrypt data keys, and nothing else.

The settings list them.  Each is a key that this process holds, or the name of one that a
key-management service holds; the first encrypts.
"""

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from image_categorizer_server.access.kms.names import service_key
from image_categorizer_server.errors import DependencyDown, OperatorError
from image_categorizer_server.settings.encryption import EncryptionSettings

KEY_BYTES = 32
NONCE_BYTES = 12
ID_CHARACTERS = 16
KEYS, KEYS_PATH = "CATEGORIZER_ENCRYPTION__KEYS", "CATEGORIZER_ENCRYPTION__KEYS_PATH"


class KeyWrapper(Protocol):
    """One key-encryption key."""

    @property
    def name(self) -> str:
        """Names the key in messages; tells nothing about it."""
        ...

    async def wrap(self, secret: bytes, context: bytes) -> bytes:
        """Returns a data key, encrypted.

        Args:
            secret: the data key.
            context: what it belongs to; must be the same to unwrap it.

        Raises:
            OperatorError: a service refuses to.
            DependencyDown: a service does not answer.
        """
        ...

    async def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Returns a data key.

        Raises:
            OperatorError: another key encrypted it, or the context is another, or a service
                refuses to.
            DependencyDown: a service does not answer.
        """
        ...


class LocalKey:
    """A key that this process holds."""

    def __init__(self, key: bytes) -> None:
        """Takes a key of 32 bytes."""
        self._key = AESGCM(key)
        self.name = _id(key)

    async def wrap(self, secret: bytes, context: bytes) -> bytes:
        """Returns a data key, encrypted."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._key.encrypt(nonce, secret, context)

    async def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Returns a data key.

        Raises:
            OperatorError: another key encrypted it, or the context is another.
        """
        try:
            return self._key.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], context)
        except (InvalidTag, ValueError):  # the latter if it is too short
            raise OperatorError("A data key is damaged, or stands in another's place.") from None


class KeyEncryption:
    """Encrypts data keys by the first of several key-encryption keys."""

    def __init__(self, keys: dict[str, KeyWrapper]) -> None:
        """Takes at least one key, by id; an id has at most 64 characters."""
        self._keys = keys
        self.current_id = next(iter(keys))
        """The id of the key that wraps new data keys."""

    async def wrap(self, secret: bytes, context: bytes) -> bytes:
        """Returns a data key, encrypted by the current key; see `KeyWrapper.wrap`."""
        return await self._keys[self.current_id].wrap(secret, context)

    async def unwrap(self, kek_id: str, wrapped: bytes, context: bytes) -> bytes:
        """Returns a data key; see `KeyWrapper.unwrap`.

        Raises:
            OperatorError: no key has that id.
        """
        key = self._keys.get(kek_id)
        if key is None:
            raise OperatorError(
                f"A data key was encrypted by the key {kek_id}, which is not in {KEYS_PATH}."
            )
        return await key.unwrap(wrapped, context)

    async def check(self) -> Sequence[tuple[str, str]]:
        """Wraps and unwraps by each key. Returns its name, and what is wrong with it or nothing."""
        found = []
        for key in self._keys.values():
            secret, context, problem = os.urandom(KEY_BYTES), b"check", ""
            try:
                await key.unwrap(await key.wrap(secret, context), context)
            except OperatorError as error:
                problem = str(error)
            except DependencyDown as error:
                problem = error.message
            found.append((key.name, problem))
        return found


def key_encryption(settings: EncryptionSettings) -> KeyEncryption | None:
    """Returns the keys of the settings; None if there are none: images are stored as they are.

    Raises:
        OperatorError: the file cannot be read, or a word of it is no key, or a service's library
            or credentials are missing.
    """
    text, name = settings.keys, KEYS
    if settings.keys_path:
        name = KEYS_PATH
        try:
            text = Path(settings.keys_path).read_text()
        except (OSError, UnicodeDecodeError) as error:
            problem = getattr(error, "strerror", None) or "it is not text"
            raise OperatorError(f"{name}: cannot read {settings.keys_path}: {problem}.") from None
    elif not text:
        return None
    keys = dict(_opened(word, name, settings) for word in text.replace(",", " ").split())
    if not keys:
        raise OperatorError(f"{name} holds no key.")
    return KeyEncryption(keys)


def new_key() -> str:
    """Returns a new key-encryption key, as the settings take it."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()


def _opened(word: str, name: str, settings: EncryptionSettings) -> tuple[str, KeyWrapper]:
    """Returns the id of a key, and the key."""
    if service := service_key(word, settings):
        return _id(word.encode()), service
    try:
        key = base64.b64decode(word, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise OperatorError(
            f"{name}: a key is not {KEY_BYTES} bytes in base64, nor the name of a key of a "
            "key-management service."
        )
    return _id(key), LocalKey(key)


def _id(key: bytes) -> str:
    """Returns a name of a key that tells nothing about it."""
    return hashlib.sha256(b"image-categorizer kek\0" + key).hexdigest()[:ID_CHARACTERS]
