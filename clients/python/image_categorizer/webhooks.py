"""Verifies webhook messages (Standard Webhooks, standardwebhooks.com, version 1)."""

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
    """A webhook message is not genuine: it was altered, is too old, or has another's signature."""


def verify_webhook(
    secret: str, headers: Mapping[str, str], body: bytes, *, tolerance_s: float = 300.0
) -> Any:
    """Returns the content of a webhook message, parsed from JSON, if the message is genuine.

        message = verify_webhook("whsec_...", request.headers, request.body)
        if message["type"] == "batch.completed":
            print(message["data"]["batch_id"])

    Delivery is at least once: a message may arrive twice with the same `webhook-id` header;
    deduplicate on it.

    Args:
        secret: the webhook's secret, `whsec_...`; see `webhooks.create`.
        headers: the headers of the HTTP request; the case of their names does not matter.
        body: the body of the HTTP request, unchanged.
        tolerance_s: the maximum difference between the message's time and now, in seconds.

    Raises:
        WebhookInvalid: a header is missing, the message is too old or too new, or no signature
            matches.
        ValueError: the secret is malformed.
    """
    named = {name.lower(): value for name, value in headers.items()}
    message_id = named.get("webhook-id", "")
    timestamp = named.get("webhook-timestamp", "")
    signatures = named.get("webhook-signature", "").split()
    if not (message_id and timestamp and signatures):
        raise WebhookInvalid("a header is missing: webhook-id, -timestamp or -signature")
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 15):
        raise WebhookInvalid("webhook-timestamp is not a number of seconds")
    if abs(time.time() - int(timestamp)) > tolerance_s:
        raise WebhookInvalid("the message is too old or too new")
    expected = _signature(secret, f"{message_id}.{timestamp}.".encode() + body)
    if not any(hmac.compare_digest(expected, given.encode()) for given in signatures):
        raise WebhookInvalid("no signature matches: an altered body, or another secret")
    return json.loads(body)


def _signature(secret: str, content: bytes) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("the secret must be `whsec_` and base64") from None
    return b"v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256))
