"""Where a client connects, and with which gRPC options."""

import json

MEBIBYTE = 2**20
MAX_MESSAGE_BYTES = 128 * MEBIBYTE
# Only UNAVAILABLE is safe to retry (AIP-194).  gRPC retries by itself and obeys the server's
# pushback.
SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [
                {"service": "image_categorizer.v1.ClassifyService"},
                {"service": "image_categorizer.v1.MetadataService"},
                {"service": "image_categorizer.v1.BatchService"},
            ],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.2s",
                "maxBackoff": "5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        },
        # This package reopens streams itself, because it knows which images are unanswered.  gRPC
        # would buffer in memory everything that it might have to send again.
        {
            "name": [
                {"service": "image_categorizer.v1.ClassifyService", "method": "ClassifyStream"},
                {"service": "image_categorizer.v1.BatchService", "method": "UploadBatch"},
                {"service": "image_categorizer.v1.BatchService", "method": "ExportBatchResults"},
                {"service": "image_categorizer.v1.BatchService", "method": "WatchBatch"},
            ]
        },
    ]
}


def target(base_url: str) -> tuple[str, bool]:
    """Returns the address for gRPC, and whether to use TLS.

    Raises:
        ValueError: `base_url` has a path, or a scheme other than http and https.
    """
    scheme, separator, rest = base_url.partition("://")
    if not separator:
        scheme, rest = "http", base_url
    if base_url.startswith("unix:"):
        return base_url, False
    address = rest.rstrip("/")
    if scheme not in ("http", "https") or not address or "/" in address:
        raise ValueError(f"base_url must look like localhost:8080 or https://host, is {base_url!r}")
    if ":" not in address.rpartition("]")[2]:
        address += ":443" if scheme == "https" else ":80"
    return address, scheme == "https"


def channel_options() -> list[tuple[str, str | int]]:
    """Returns the options of a channel: retries, and limits that fit large images."""
    return [
        ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
        ("grpc.enable_retries", 1),
        ("grpc.max_reconnect_backoff_ms", 5000),
        # gRPC stops retrying a call that outgrows this buffer.
        ("grpc.per_rpc_retry_buffer_size", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ]


def headers(api_key: str) -> tuple[tuple[str, str], ...]:
    """Returns the headers of every call."""
    return (("authorization", f"Bearer {api_key}"),) if api_key else ()
