"""Ed25519 signatures (RFC 8032) of statements about the audit, and of receipts.

Keys are PEM, as `openssl genpkey -algorithm ed25519` writes them.
"""

import base64
import binascii
import hashlib
import re

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

KEY_ID_CHARACTERS = 16
PEM = re.compile(r"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----", re.DOTALL)


class PublicKey:
    """A key that verifies signatures."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key
        raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.key_id = hashlib.sha256(raw).hexdigest()[:KEY_ID_CHARACTERS]
        """The first digits of the SHA-256 of the key's 32 bytes."""

    @classmethod
    def from_pem(cls, pem: str) -> "PublicKey":
        """Returns the key in a PEM text, which may also be the private key.

        Raises:
            ValueError: it holds no Ed25519 key.
        """
        if "PRIVATE KEY" in pem:
            return SigningKey.from_pem(pem).public_key
        key = load_pem_public_key(pem.encode())
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError("the key is not an Ed25519 key")  # noqa: TRY004 - the value's
        return cls(key)

    def pem(self) -> str:
        """Returns the key as PEM."""
        return self._key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def has_signed(self, text: str, signature: str) -> bool:
        """Returns whether a signature, in base64, is that of a text in UTF-8."""
        try:
            self._key.verify(base64.b64decode(signature, validate=True), text.encode())
        except (InvalidSignature, binascii.Error, ValueError):
            return False
        return True


def public_keys_in(text: str) -> list[PublicKey]:
    """Returns the keys in a text with any number of them, as PEM.

    Raises:
        ValueError: it holds another key, or none.
    """
    found = [PublicKey.from_pem(block.group()) for block in PEM.finditer(text)]
    if not found:
        raise ValueError("there is no key in it")
    return found


class SigningKey:
    """A key that signs."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public_key = PublicKey(key.public_key())

    @classmethod
    def generate(cls) -> "SigningKey":
        """Returns a new key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: str) -> "SigningKey":
        """Returns the key in a PEM text.

        Raises:
            ValueError: it holds no Ed25519 private key, or an encrypted one.
        """
        try:
            key = load_pem_private_key(pem.encode(), password=None)
        except TypeError:
            raise ValueError("the key is encrypted") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("the key is not an Ed25519 key")  # noqa: TRY004 - the value's
        return cls(key)

    def pem(self) -> str:
        """Returns the private key as PEM."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def sign(self, text: str) -> str:
        """Returns the signature of a text in UTF-8, in base64."""
        return base64.b64encode(self._key.sign(text.encode())).decode()
