"""The values that the clients take and return: plain, immutable dataclasses.

A name such as a state or a lane is the name of the server's enum value.  A server that is newer
than this package may send a value that has no name here; its number stands in its place, as text.
"""

import os
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, BinaryIO, Literal, TypeAlias, TypedDict

from image_categorizer import _html
from image_categorizer.errors import CategorizerError

if TYPE_CHECKING:
    import numpy
    import PIL.Image
    from numpy.typing import NDArray

Image: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO"
    " | PIL.Image.Image | NDArray[numpy.uint8]"
)
"""One image: a path, encoded bytes, an open binary file, a Pillow image, or an array of pixels.

An array has the shape (height, width, 3), the dtype uint8 and the channel order RGB.  Pillow images
and arrays are sent as PNG.  A file is read from its start where it can be rewound.
"""

Source = (
    str
    | os.PathLike[str]
    | tuple[str, bytes | bytearray | memoryview]
    | tuple[str, bytes | bytearray | memoryview, Sequence[str]]
)
"""One image of many: a file's path, or a name and encoded bytes; with these also what nobody may
see of it, beside what `Options.blur` says of all."""

StreamSources = Iterable[Source]
"""The images of a stream."""

AsyncStreamSources = Iterable[Source] | AsyncIterable[Source]
"""The images of a stream by asyncio."""

Sources = str | os.PathLike[str] | Iterable[Source]
"""The images of a batch: a folder, or an iterable of sources, which may be lazy."""

AsyncSources = Sources | AsyncIterable[Source]
"""The images of a batch by asyncio: `Sources`, or an asynchronous iterable."""

Lane = Literal["INTERACTIVE", "BATCH"]
"""The server's queue: INTERACTIVE goes first, BATCH takes the capacity that is left."""

BatchState = Literal["QUEUED", "RUNNING", "COMPLETED", "CANCELLING", "CANCELLED", "FAILED"]
"""The states of a batch, as an argument; see `Batch.state`."""

DeliveryState = Literal["PENDING", "DELIVERED", "FAILED"]
"""The states of a webhook delivery, as an argument; see `WebhookDelivery.state`."""


ExportFormat = Literal["jsonl", "csv"]
"""The format of exported results: JSON Lines, or CSV (RFC 4180) with a header row."""

Progress = Callable[[int, int | None], None]
"""Called before each result of a stream: results so far, and their total, None if unknown."""

BatchProgress = Callable[["Batch"], None]
"""Called with the batch each time it changes."""

OnDisconnect = Callable[[Sequence[str]], None]
"""Called when a connection breaks, with the keys of the images that the server had received."""


class Options(TypedDict, total=False):
    """How to classify, as keyword arguments."""

    model: str
    """The model's name. Default: the server's default model."""
    version: str | int
    """The model's version: a number, or an alias such as `stable`. Default: the active version."""
    confidence_threshold: float
    """The minimum confidence of a prediction, in [0, 1]. Default: 0."""
    top_k: int
    """The maximum number of predictions, at least 1. Default: 5."""
    include_categories: Sequence[str]
    """Only these categories may be predicted; broader ones mean all below them. Default: all."""
    exclude_categories: Sequence[str]
    """These categories may not be predicted; applied after `include_categories`."""
    bounding_boxes: bool
    """Whether to locate each category in the image (`Prediction.bounding_box`)."""
    explain: bool
    """Whether to draw a heat map of the best prediction (`Classification.heat_map`)."""
    no_cache: bool
    """Whether to run the model even if the server has a cached answer."""
    roll_up: bool
    """Whether to answer with the deepest category that reaches the threshold, such as `cat`.

    The threshold then defaults to 0.8. If no category reaches it, the answer is `UNKNOWN`. The
    other predictions are the model's categories below the answer. Default: the model's setting.
    """
    raw_confidence: bool
    """Whether to return the confidences before calibration, too (`Prediction.raw_confidence`)."""
    store: bool
    """Whether to keep the image and the result (`client.images`)."""
    subject_id: str
    """Whose image it is, at most 128 characters."""
    blur: Sequence[str]
    """What nobody may see in what is stored: `left,top,right,bottom` in pixels of the upright
    image, or `percent:` and the same in hundredths. In streams and batches, of all images."""


class BatchOptions(Options, total=False):
    """How to run a batch, as keyword arguments: `Options` and these."""

    webhook_url: str
    """An https address that receives a message when the batch ends."""
    request_id: str
    """Makes the submission idempotent: a batch with this id is returned, not created again.

    1 to 64 characters. Default: a random id, so that the client can retry an upload.
    """
    priority: int
    """The order among your own batches, in [-10, 10]; higher goes first. Default: 0."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One category of an image."""

    category: str
    confidence: float
    """In [0, 1]."""
    category_id: str
    """An identifier that outlives a change of names; empty if the model has none."""
    ancestors: tuple[str, ...]
    """Broader categories, the nearest first."""
    bounding_box: tuple[int, int, int, int] | None = None
    """Left, top, right, bottom in pixels of the upright image; None unless requested and known."""
    raw_confidence: float | None = None
    """The confidence before the model's temperature, in [0, 1]; None unless requested."""
    bounding_boxes: tuple[tuple[int, int, int, int], ...] = ()
    """One for each object of the category that was found, the strongest first; the first is
    `bounding_box`."""
    source: str = "MODEL"
    """CORRECTION if feedback about a similar image decided; `confidence` is then how similar.
    OWN_CATEGORY if it is one of the tenant's categories."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A stored image, and how similar it is."""

    image_id: str
    similarity: float
    """The cosine of the angle between the embeddings, in [-1, 1]."""


@dataclass(frozen=True, slots=True)
class ModelRef:
    """The exact model version that answered."""

    name: str
    version: str
    digest: str
    """`sha256:` and 64 hexadecimal digits over the model's files."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the server spent its time on one image."""

    decode_ms: float
    """Milliseconds from the start of decoding to the model's input."""
    queue_ms: float
    """Milliseconds of waiting, for a decoder and for the micro-batch."""
    inference_ms: float
    """Milliseconds of the model call, which the whole micro-batch shared."""
    batch_size: int
    """The number of images in the micro-batch, at least 1."""
    batch_close_reason: str
    """Why the micro-batch started: IDLE, FULL, DEADLINE or DELAY."""


@dataclass(frozen=True, slots=True)
class Classification(_html.Pictured):
    """The answer for one image."""

    filename: str
    """The file's name as given; empty for bytes, Pillow images and arrays."""
    predictions: tuple[Prediction, ...]
    """The most confident first; empty if no category reached the threshold."""
    model: ModelRef
    timing: Timing
    processing_time_s: float
    """Seconds in the server."""
    request_id: str
    """Identifies the request in the server's logs."""
    heat_map: bytes = field(default=b"", repr=False)
    """A PNG file; empty unless requested and supported by the model."""
    cache: str = ""
    """HIT if the answer came from the cache, MISS if it was stored there; otherwise empty."""
    warnings: tuple[str, ...] = ()
    """What is wrong with the image: TRUNCATED if the end of the file is missing."""
    image_id: str = ""
    """The image that was kept; empty unless `store` was given."""
    result_id: str = ""
    """The result that was kept with it."""
    neighbours: tuple[Neighbour, ...] = ()
    """The stored images whose feedback corrected the answer, or the examples of the tenant's
    category, the most similar first."""

    @property
    def category(self) -> str | None:
        """The most probable category; None if no category reached the threshold."""
        return self.predictions[0].category if self.predictions else None

    @property
    def confidence(self) -> float | None:
        """The confidence of `category`, in [0, 1]; None if there is no category."""
        return self.predictions[0].confidence if self.predictions else None

    def _repr_html_(self) -> str:
        bars = ((one.category, one.confidence) for one in self.predictions)
        return _html.answer(self, self.filename, bars)


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome for one image of a stream: `classification` or `error`, never both."""

    key: str
    """The path or the name, as given."""
    classification: Classification | None = None
    error: CategorizerError | OSError | None = None
    """The error that `classify_image` would have raised."""

    @property
    def filename(self) -> str:
        """The same as `key`."""
        return self.key

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        """The most confident first; empty if the image failed."""
        return self.classification.predictions if self.classification else ()

    @property
    def category(self) -> str | None:
        """The most probable category; None if the image failed or nothing reached the threshold."""
        return self.classification.category if self.classification else None

    @property
    def confidence(self) -> float | None:
        """The confidence of `category`, in [0, 1]; None if there is no category."""
        return self.classification.confidence if self.classification else None

    def _repr_html_(self) -> str:
        bars = ((one.category, one.confidence) for one in self.predictions)
        shown = self.classification or _html.Pictured()
        return _html.answer(shown, self.filename, bars, self.error)


@dataclass(frozen=True, slots=True)
class BatchResult(_html.Pictured):
    """The outcome for one item of a batch: predictions or an error."""

    item_id: str
    filename: str
    """As given."""
    predictions: tuple[Prediction, ...] = ()
    """The most confident first; empty if the item failed or nothing reached the threshold."""
    model: ModelRef | None = None
    """The model version that answered; None if the item failed."""
    error: CategorizerError | None = None
    """The error that `classify_image` would have raised."""
    warnings: tuple[str, ...] = ()
    """What is wrong with the image: TRUNCATED if the end of the file is missing."""

    @property
    def category(self) -> str | None:
        """The most probable category; None if the item failed or nothing reached the threshold."""
        return self.predictions[0].category if self.predictions else None

    @property
    def confidence(self) -> float | None:
        """The confidence of `category`, in [0, 1]; None if there is no category."""
        return self.predictions[0].confidence if self.predictions else None

    def _repr_html_(self) -> str:
        bars = ((one.category, one.confidence) for one in self.predictions)
        return _html.answer(self, self.filename, bars, self.error)


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as it was when the server answered."""

    batch_id: str
    state: str
    """QUEUED, RUNNING, COMPLETED, CANCELLING, CANCELLED or FAILED.

    COMPLETED means that every item has an outcome; `failed_count` items failed.
    """
    state_message: str
    """Why the state is FAILED; otherwise empty."""
    item_count: int
    succeeded_count: int
    failed_count: int
    pending_count: int
    create_time: datetime
    start_time: datetime | None
    """When the first item started; None before."""
    end_time: datetime | None
    """None until the batch has ended."""
    webhook_url: str
    ignored_count: int
    """Files of operating systems in zip files, such as `.DS_Store`, that became no items."""
    failures: tuple[BatchResult, ...] = field(repr=False)
    """The first failures, at most 20."""
    items_per_s: float
    """The current rate; 0 unless RUNNING."""
    remaining_time: timedelta | None
    """An estimate; None unless RUNNING."""

    @property
    def done_count(self) -> int:
        """The number of items that have an outcome."""
        return self.succeeded_count + self.failed_count

    @property
    def has_ended(self) -> bool:
        """Whether the batch is COMPLETED, CANCELLED or FAILED; only a retry changes that."""
        return self.state in ("COMPLETED", "CANCELLED", "FAILED")

    def _repr_html_(self) -> str:
        names = ("succeeded", "failed", "pending")
        parts = self.succeeded_count, self.failed_count, self.pending_count
        title = f"{self.batch_id} {self.state}"
        return _html.counts(title, zip(names, parts, strict=True), self.item_count)

    def raise_unless_completed(self) -> None:
        """Does nothing if every item has an outcome.

        Raises:
            CategorizerError: the batch is not COMPLETED; the message gives the reason.
        """
        if self.state != "COMPLETED":
            why = self.state_message or f"{self.pending_count} items have no outcome"
            raise CategorizerError(f"batch {self.batch_id} is {self.state}: {why}")


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address that receives a message when a batch ends."""

    webhook_id: str
    url: str
    """Empty for the webhook `default`, which signs the messages to a request's `webhook_url`."""
    state: str
    """ENABLED, DISABLED, or GONE: disabled because the address answered 410."""
    secret: str = field(repr=False)
    """Signs the messages. Set only by `create` and `rotate_secret`; otherwise empty."""
    previous_secret_expire_time: datetime | None
    """Until when messages also carry the previous secret's signature; None if there is none."""
    create_time: datetime


@dataclass(frozen=True, slots=True)
class WebhookAttempt:
    """One POST of a delivery."""

    start_time: datetime
    duration_ms: float
    status_code: int
    """The HTTP status of the answer; 0 if there was none."""


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """One message to one webhook, and the attempts to send it."""

    delivery_id: str
    """The `webhook-id` header of its messages."""
    webhook_id: str
    event_type: str
    """`batch.completed`, `batch.failed`, `batch.cancelled` or `classification.done`."""
    batch_id: str
    """Empty if the message is about a single classification."""
    url: str
    state: str
    """PENDING, DELIVERED or FAILED."""
    next_attempt_time: datetime | None
    """None unless PENDING."""
    attempt_count: int
    attempts: tuple[WebhookAttempt, ...]
    """The newest first, at most 20."""
    create_time: datetime
    end_time: datetime | None
    """None while PENDING."""


@dataclass(frozen=True, slots=True)
class Category:
    """A category that a model can predict."""

    category: str
    """Its name, unique within the model."""
    category_id: str
    """An identifier that outlives a change of names; empty if the model has none."""
    ancestors: tuple[str, ...]
    """Broader categories, the nearest first."""


@dataclass(frozen=True, slots=True)
class Model:
    """One version of a model on the server."""

    name: str
    version: str
    """The version's number, counted from 1."""
    digest: str
    """`sha256:` and 64 hexadecimal digits over the model's files."""
    state: str
    """LOADING, READY, FAILED, UNLOADED or STANDBY.

    Only READY versions answer; one in STANDBY is loaded for the next request, which waits.
    """
    state_message: str
    """Why the state is FAILED; otherwise empty."""
    default: bool
    """Whether this version answers requests that name no model."""
    category_count: int
    input_width_px: int
    input_height_px: int
    activation: str
    """SOFTMAX: confidences add up to 1. SIGMOID: an image may be in several categories."""
    runtime: str
    """`onnx` or `torch`; empty unless READY."""
    device: str
    """`cpu` or `cuda`; empty unless READY."""
    licence: str
    """The licence of the weights; may be empty."""
    origin: str
    """Where the weights come from; may be empty."""
    aliases: tuple[str, ...]
    """The aliases of this version, such as `stable`."""
    canary_percent: float
    """The percentage of requests without a version that this version answers as `canary`."""
    precision: str
    """`fp32`, `fp16`, `bf16` or `int8`; empty unless READY."""
    localization: str
    """How the model finds bounding boxes: CLASS_ACTIVATION, ATTENTION_ROLLOUT or DETECTION.

    LOCALIZATION_UNSPECIFIED if it cannot.
    """
    resident_bytes: int
    """About how much memory it takes while it is loaded."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The server's limits; each is inclusive."""

    max_image_bytes: int
    max_image_pixels: int
    """Width times height."""
    max_side_px: int
    max_aspect_ratio: float
    """The longer side divided by the shorter one."""
    max_filter_categories: int
    """The maximum number of names in `include_categories` and in `exclude_categories`."""
    default_deadline_s: float
    """Seconds that a request without a deadline may take."""
    max_deadline_s: float
    max_stream_in_flight: int
    """The maximum number of unanswered images of one stream."""
    max_batch_items: int
    max_batch_bytes: int


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """The server's release, formats and limits."""

    version: str
    image_formats: tuple[str, ...]
    """Such as JPEG and PNG."""
    limits: Limits
    default_model: str
    """The model that answers requests that name none."""
