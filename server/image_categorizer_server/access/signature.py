"""Signs messages to webhooks as Standard Webhooks says (standardwebhooks.com, version 1).

A signature is `v1,` and the base64 of HMAC-SHA256 over `<id>.<timestamp>.<body>`; a message may
carry several, one for each secret that is in force.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence

PREFIX = "whsec_"
SECRET_BYTES = 32  # the standard: 24 to 64


def new_secret() -> str:
    """Returns a new random secret: `whsec_` and base64 of 32 bytes."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signed_headers(
    secrets_in_force: Sequence[str], message_id: str, timestamp_s: int, body: bytes
) -> dict[str, str]:
    """Returns the headers that make `body` a signed message.

    Args:
        secrets_in_force: the newest first, at least one.
        message_id: the same at every attempt; without dots.
        timestamp_s: when this attempt begins, in seconds since 1970.
        body: what is sent, byte for byte.
    """
    content = f"{message_id}.{timestamp_s}.".encode() + body
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(_signature(s, content) for s in secrets_in_force),
    }


def _signature(secret: str, content: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
