"""Key-encryption keys: they encrypt data keys, and nothing else.

A key-management service stands behind the same two methods.  What is shipped reads its keys from a
file or the environment.
"""

import base64
import binascii
import hashlib
import os
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.settings.encryption import EncryptionSettings

KEY_BYTES = 32
NONCE_BYTES = 12
ID_CHARACTERS = 16
KEYS, KEYS_PATH = "CATEGORIZER_ENCRYPTION__KEYS", "CATEGORIZER_ENCRYPTION__KEYS_PATH"


class KeyEncryption(Protocol):
    """Encrypts data keys, or has a service encrypt them."""

    @property
    def current_id(self) -> str:
        """The id of the key that wraps new data keys, at most 64 characters."""
        ...

    async def wrap(self, secret: bytes, context: bytes) -> bytes:
        """Returns a data key, encrypted by the current key.

        Args:
            secret: the data key.
            context: what it belongs to; must be the same to unwrap it.

        Raises:
            DependencyDown: the service does not answer.
        """
        ...

    async def unwrap(self, kek_id: str, wrapped: bytes, context: bytes) -> bytes:
        """Returns a data key.

        Raises:
            OperatorError: no key has that id, or it is not the one that encrypted this, or the
                context is another.
            DependencyDown: the service does not answer.
        """
        ...


class LocalKeys:
    """Keys that this process holds. The first is the current one."""

    def __init__(self, keys: list[bytes]) -> None:
        """Takes at least one key of 32 bytes."""
        self._keys = {_id(key): AESGCM(key) for key in keys}
        self.current_id = _id(keys[0])

    async def wrap(self, secret: bytes, context: bytes) -> bytes:
        """Returns a data key, encrypted by the current key."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._keys[self.current_id].encrypt(nonce, secret, context)

    async def unwrap(self, kek_id: str, wrapped: bytes, context: bytes) -> bytes:
        """Returns a data key.

        Raises:
            OperatorError: no key has that id, or it is not the one that encrypted this, or the
                context is another.
        """
        key = self._keys.get(kek_id)
        if key is None:
            raise OperatorError(
                f"A data key was encrypted by the key {kek_id}, which is not in {KEYS_PATH}."
            )
        try:
            return key.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], context)
        except (InvalidTag, ValueError):  # the latter if it is too short
            raise OperatorError("A data key is damaged, or stands in another's place.") from None


def local_keys(settings: EncryptionSettings) -> LocalKeys | None:
    """Returns the keys of the settings; None if there are none: images are stored as they are.

    Raises:
        OperatorError: the file cannot be read, or a key is not 32 bytes in base64.
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
    keys = [_decoded(word, name) for word in text.replace(",", " ").split()]
    if not keys:
        raise OperatorError(f"{name} holds no key.")
    return LocalKeys(keys)


def new_key() -> str:
    """Returns a new key-encryption key, as the settings take it."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()


def _decoded(word: str, name: str) -> bytes:
    try:
        key = base64.b64decode(word, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise OperatorError(f"{name}: a key is not {KEY_BYTES} bytes in base64.")
    return key


def _id(key: bytes) -> str:
    """Returns a name of a key that tells nothing about it."""
    return hashlib.sha256(b"image-categorizer kek\0" + key).hexdigest()[:ID_CHARACTERS]
