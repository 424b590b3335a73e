"""Verifies receipts of results without a server (JSON Web Signature, RFC 7515, with Ed25519).

It needs the package `cryptography`: `pip install 'image-categorizer[receipts]'`.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from typing import Any

TYPE = "image-categorizer-receipt"
ALGORITHM = "EdDSA"
MAX_CHARACTERS = 65_536
KEY_BYTES = 32


class ReceiptInvalid(Exception):
    """A receipt is not genuine, or not about this image; the text says why."""


def verify_receipt(
    receipt: str, keys: Mapping[str, Any], image_bytes: bytes | None = None
) -> dict[str, Any]:
    """Returns what a receipt states, if one of the keys has signed it.

        keys = json.loads(Path("keys.json").read_text())  # of GET /v1/receipts/keys
        claims = verify_receipt(receipt.receipt, keys, Path("cat.jpg").read_bytes())
        print(claims["predictions"][0]["category"])

    Args:
        receipt: the text of the receipt.
        keys: a JSON Web Key Set with the public keys that you trust; take it from the server
            itself once, over TLS, and keep it.
        image_bytes: the image, as it was sent: the receipt must be about it.  None: any image.

    Raises:
        ReceiptInvalid: it was changed, or signed by another key, or is about another image.
        ImportError: the package `cryptography` is missing.
    """
    if len(receipt) > MAX_CHARACTERS:
        raise ReceiptInvalid(f"it has more than {MAX_CHARACTERS} characters")
    parts = receipt.strip().split(".")
    if len(parts) != 3:
        raise ReceiptInvalid("it is not three parts with dots between them")
    header, claims = _object(parts[0], "header"), _object(parts[1], "payload")
    if header.get("alg") != ALGORITHM or header.get("typ") != TYPE or "crit" in header:
        raise ReceiptInvalid(f"its header does not have alg {ALGORITHM} and typ {TYPE}")
    signed = f"{parts[0]}.{parts[1]}".encode()
    _verify_signature(signed, _bytes(parts[2], "signature"), _key(keys, header.get("kid")))
    if image_bytes is not None:
        digest = hashlib.sha256(image_bytes).hexdigest()
        if not hmac.compare_digest(digest, str(claims.get("input_sha256"))):
            raise ReceiptInvalid("it is about another image")
    return claims


def _verify_signature(signed: bytes, signature: bytes, key: bytes) -> None:
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        raise ImportError(
            "receipts are verified with the package cryptography: "
            "pip install 'image-categorizer[receipts]'"
        ) from None
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, signed)
    except InvalidSignature:
        raise ReceiptInvalid("the key that it names has not signed it: it was changed") from None


def _key(keys: Mapping[str, Any], key_id: object) -> bytes:
    """Returns the 32 bytes of the key with an id."""
    found = keys.get("keys")
    candidates: Iterable[Any] = found if isinstance(found, list) else []
    for key in candidates:
        if not isinstance(key, Mapping) or key.get("kid") != key_id:
            continue
        value = _bytes(str(key.get("x", "")), "key")
        if key.get("kty") == "OKP" and key.get("crv") == "Ed25519" and len(value) == KEY_BYTES:
            return value
    raise ReceiptInvalid(f"its key {str(key_id)[:40]!r} is not among the keys")


def _object(part: str, name: str) -> dict[str, Any]:
    """Returns the JSON object in a part; one with two members of one name is refused."""
    try:
        value = json.loads(_bytes(part, name), object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise ReceiptInvalid(f"its {name} is malformed") from None
    if not isinstance(value, dict):
        raise ReceiptInvalid(f"its {name} is malformed")
    return value


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) < len(members):
        raise ValueError("an object has two members of one name")
    return found


def _bytes(part: str, name: str) -> bytes:
    """Returns bytes in base64url without padding."""
    try:
        padded = part + "=" * (-len(part) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ReceiptInvalid(f"its {name} is malformed") from None
