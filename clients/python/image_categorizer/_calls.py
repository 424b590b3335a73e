"""What both clients share: addresses, requests, answers.  The only I/O is reading files."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol, TypedDict

from image_categorizer.v1 import classify_pb2, metadata_pb2, types_pb2

Image = str | os.PathLike[str] | bytes | BinaryIO
"""A file's path, encoded bytes, or an open binary file."""

MEBIBYTE = 2**20
MOST_MESSAGE_BYTES = 128 * MEBIBYTE
DEFAULT_TIMEOUT_S = 30.0
# Only UNAVAILABLE may be tried again (AIP-194); gRPC itself does it, and obeys the server's
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
        # Streams are opened again by this package, which knows what is unanswered; gRPC would hold
        # in memory what it might have to send again.
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


@dataclass(frozen=True, slots=True)
class Prediction:
    """One category, and how sure the model is of it."""

    category: str
    confidence: float
    """In [0, 1]."""
    category_id: str
    ancestors: tuple[str, ...]
    """Broader categories, the nearest first."""
    bounding_box: tuple[int, int, int, int] | None = None
    """Left, top, right, bottom in pixels of the upright image, where asked for and known."""


@dataclass(frozen=True, slots=True)
class ModelRef:
    """The network that answered."""

    name: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time went; see `Timing` in types.proto."""

    decode_ms: float
    queue_ms: float
    inference_ms: float
    batch_size: int
    batch_close_reason: str


@dataclass(frozen=True, slots=True)
class Classification:
    """What one image shows."""

    filename: str
    """The file's name as it was given; empty for bytes."""
    predictions: tuple[Prediction, ...]
    """The most confident first; empty where nothing reached the threshold."""
    model: ModelRef
    timing: Timing
    processing_time_s: float
    request_id: str
    heat_map: bytes = field(default=b"", repr=False)
    """A PNG file, where asked for and known."""
    cache: str = ""
    """`HIT` where the answer was remembered, `MISS` where it is from now on; else empty."""

    @property
    def category(self) -> str | None:
        """The most probable category; None where nothing reached the threshold."""
        return self.predictions[0].category if self.predictions else None

    @property
    def confidence(self) -> float | None:
        """The confidence of `category`, in [0, 1]."""
        return self.predictions[0].confidence if self.predictions else None


class Options(TypedDict, total=False):
    """How to classify, as keyword arguments; see `ClassifyOptions` in classify.proto."""

    model: str
    version: str
    confidence_threshold: float
    top_k: int
    include_categories: Sequence[str]
    exclude_categories: Sequence[str]
    bounding_boxes: bool
    explain: bool
    no_cache: bool


def target(base_url: str) -> tuple[str, bool]:
    """Returns the address for gRPC, and whether to use TLS.

    Raises:
        ValueError: `base_url` has a path, or another scheme than http and https.
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
    """Returns the options of a channel: retries, and room for large images."""
    return [
        ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
        ("grpc.enable_retries", 1),
        ("grpc.max_reconnect_backoff_ms", 5000),
        # gRPC gives up retrying a call that outgrows this buffer.
        ("grpc.per_rpc_retry_buffer_size", MOST_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MOST_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MOST_MESSAGE_BYTES),
    ]


def headers(api_key: str) -> tuple[tuple[str, str], ...]:
    """Returns the headers of every call."""
    return (("authorization", f"Bearer {api_key}"),) if api_key else ()


def read(image: Image) -> tuple[str, bytes]:
    """Returns the name and the bytes of an image; blocks while a file is read.

    Raises:
        OSError: the file cannot be read.
    """
    if isinstance(image, bytes):
        return "", image
    if isinstance(image, str | os.PathLike):
        return os.fspath(image), Path(image).read_bytes()
    return str(getattr(image, "name", "")), image.read()


def classify_request(
    content: bytes, options: Options, webhook_url: str = ""
) -> classify_pb2.ClassifyRequest:
    """Returns the request for one image."""
    wire = classify_pb2.ClassifyOptions(**options)
    return classify_pb2.ClassifyRequest(image=content, options=wire, webhook_url=webhook_url)


def classification(filename: str, response: classify_pb2.ClassifyResponse) -> Classification:
    """Returns an answer as a plain value."""
    timing = response.timing
    return Classification(
        filename=filename,
        predictions=tuple(
            Prediction(
                p.category,
                p.confidence,
                p.category_id,
                tuple(p.ancestors),
                bounding_box(p.bounding_box),
            )
            for p in response.predictions
        ),
        model=ModelRef(response.model.name, response.model.version, response.model.digest),
        timing=Timing(
            decode_ms=timing.decode_ms,
            queue_ms=timing.queue_ms,
            inference_ms=timing.inference_ms,
            batch_size=timing.batch_size,
            batch_close_reason=types_pb2.Timing.BatchCloseReason.Name(timing.batch_close_reason),
        ),
        processing_time_s=response.processing_time,
        request_id=response.request_id,
        heat_map=response.heat_map,
        cache=classify_pb2.ClassifyResponse.Cache.Name(response.cache) if response.cache else "",
    )


def bounding_box(edges: Sequence[int]) -> tuple[int, int, int, int] | None:
    """Returns a box as a plain value, None for an empty one."""
    if not edges:
        return None
    left, top, right, bottom = edges
    return left, top, right, bottom


def categories_request(model: str, version: str) -> metadata_pb2.ListCategoriesRequest:
    """Returns the request for the first page of categories."""
    return metadata_pb2.ListCategoriesRequest(model=model, version=version, page_size=1000)


def models_request() -> metadata_pb2.ListModelsRequest:
    """Returns the request for the first page of models."""
    return metadata_pb2.ListModelsRequest(page_size=1000)


class PageRequest(Protocol):
    """Asks for one page of a list (AIP-158)."""

    page_token: str


class Page(Protocol):
    """One page of a list (AIP-158)."""

    @property
    def next_page_token(self) -> str:
        """Asks for the page after this one; empty on the last."""
