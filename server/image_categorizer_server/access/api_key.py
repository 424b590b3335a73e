"""The form of API keys: `ic_`, 43 random characters, 6 of checksum.

The random part holds 256 bits, so storing a plain SHA-256 is safe (OWASP ASVS 5.0, 6.5.2).  With
prefix and checksum, scanners find leaked keys and the server refuses mistyped ones without asking
the database, as with GitHub's tokens.
"""

import hashlib
import secrets
import string
import zlib

PREFIX = "ic_"
ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
SECRET_LENGTH = 43  # log2(62 ** 43) = 256.03
CHECKSUM_LENGTH = 6


def new_key() -> str:
    """Returns a new random key."""
    secret = "".join(secrets.choice(ALPHABET) for _ in range(SECRET_LENGTH))
    return f"{PREFIX}{secret}{_checksum(secret)}"


def is_well_formed(key: str) -> bool:
    """Returns whether prefix, length and checksum are right; the key may not exist."""
    secret, checksum = key[len(PREFIX) : -CHECKSUM_LENGTH], key[-CHECKSUM_LENGTH:]
    return key.startswith(PREFIX) and len(secret) == SECRET_LENGTH and checksum == _checksum(secret)


def sha256_of(key: str) -> str:
    """Returns the stored form of a key: 64 hexadecimal digits."""
    return hashlib.sha256(key.encode()).hexdigest()


def _checksum(secret: str) -> str:
    number = zlib.crc32(secret.encode())
    digits = []
    for _ in range(CHECKSUM_LENGTH):
        number, digit = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return "".join(digits)
