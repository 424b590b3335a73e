"""Checks messages of webhooks, as Standard Webhooks says (standardwebhooks.com, version 1)."""

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

PREFIX = "whsec_"


class WebhookInvalid(Exception):
    """A message to a webhook that is not to be trusted: altered, too old, or another's."""


def verify_webhook(
    secret: str, headers: Mapping[str, str], body: bytes, *, tolerance_s: float = 300.0
) -> Any:
    """Returns the content of a genuine message to a webhook.

    Messages may come more than once; those with the same `webhook-id` are the same.

    Args:
        secret: the webhook's own, `whsec_...`.
        headers: those of the request; the case of their names does not matter.
        body: the request's, byte for byte as it came.
        tolerance_s: how far the message's time may be from now, in seconds.

    Raises:
        WebhookInvalid: a header is missing, the message is too old or new, or no signature fits.
    """
    named = {name.lower(): value for name, value in headers.items()}
    message_id = named.get("webhook-id", "")
    timestamp = named.get("webhook-timestamp", "")
    signatures = named.get("webhook-signature", "").split()
    if not (message_id and timestamp and signatures):
        raise WebhookInvalid("a header is missing: webhook-id, -timestamp or -signature")
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 15):
        raise WebhookInvalid("webhook-timestamp is no number of seconds")
    if abs(time.time() - int(timestamp)) > tolerance_s:
        raise WebhookInvalid("the message is too old or too new")
    expected = _signature(secret, f"{message_id}.{timestamp}.".encode() + body)
    if not any(hmac.compare_digest(expected, given.encode()) for given in signatures):
        raise WebhookInvalid("no signature fits: the body was altered, or the secret is another's")
    return json.loads(body)


def _signature(secret: str, content: bytes) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("the secret must be `whsec_` and base64") from None
    return b"v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256))
