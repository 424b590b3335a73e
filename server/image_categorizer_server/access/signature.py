"""Signatures of webhooks, by Standard Webhooks 1 (standardwebhooks.com).

A signature is `v1,` and the base64 of HMAC-SHA256 over `<id>.<timestamp>.<body>`.  A message
carries one signature for each valid secret.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence

PREFIX = "whsec_"
SECRET_BYTES = 32  # the standard allows 24 to 64


def new_secret() -> str:
    """Returns a new random secret: `whsec_` and base64 of 32 bytes."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signed_headers(
    valid_secrets: Sequence[str], message_id: str, timestamp_s: int, body: bytes
) -> dict[str, str]:
    """Returns the headers that make `body` a signed message.

    Args:
        valid_secrets: newest first, at least one.
        message_id: the same at every attempt; contains no dots.
        timestamp_s: the start of this attempt, in seconds since 1970.
        body: the bytes that are sent.
    """
    content = f"{message_id}.{timestamp_s}.".encode() + body
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(_signature(s, content) for s in valid_secrets),
    }


def _signature(secret: str, content: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
