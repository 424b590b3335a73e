"""Converts between the clients' values and protobuf messages.

Answers may come from a newer server: a value of an enum that this package does not know becomes its
number as text, and nothing here raises because of it.
"""

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from image_categorizer._statuses import from_status
from image_categorizer._values import (
    Batch,
    BatchOptions,
    BatchResult,
    BatchState,
    Category,
    Classification,
    DeliveryState,
    Lane,
    Limits,
    Model,
    ModelRef,
    Neighbour,
    Options,
    Prediction,
    ServerInfo,
    Timing,
    Webhook,
    WebhookAttempt,
    WebhookDelivery,
)
from image_categorizer.v1 import (
    admin_pb2,
    batch_pb2,
    classify_pb2,
    metadata_pb2,
    types_pb2,
)

Number = TypeVar("Number", bound=int)
PAGE_SIZE = 1000


class PageRequest(Protocol):
    """A request for one page of a list (AIP-158)."""

    page_token: str


class Page(Protocol):
    """One page of a list (AIP-158)."""

    @property
    def next_page_token(self) -> str:
        """Requests the next page; empty on the last one."""


def classify_options(given: Mapping[str, object]) -> classify_pb2.ClassifyOptions:
    """Returns the options of a classification.

    Raises:
        TypeError: an option is unknown or of the wrong type.
    """
    fields = dict(given)
    for name in ("include_categories", "exclude_categories", "blur"):
        if isinstance(fields.get(name), str | bytes):
            raise TypeError(f"{name} takes a list of names, not the single name {fields[name]!r}")
    if "version" in fields:
        fields["version"] = version_text(fields["version"])
    unknown = fields.keys() - classify_pb2.ClassifyOptions.DESCRIPTOR.fields_by_name.keys()
    if unknown:
        raise TypeError(f"unknown options: {', '.join(sorted(unknown))}")
    return classify_pb2.ClassifyOptions(**fields)  # type: ignore[arg-type]  # protobuf checks


def version_text(version: object) -> str:
    """Returns a version as text.

    Raises:
        TypeError: it is neither a str nor an int.
    """
    if isinstance(version, bool) or not isinstance(version, str | int):
        raise TypeError(f"version takes a str or an int, not {version!r}")
    return str(version)


def classify_request(
    content: bytes, options: Options, webhook_url: str, filename: str
) -> classify_pb2.ClassifyRequest:
    """Returns the request for one image; it has the file name if the image is stored."""
    request = classify_pb2.ClassifyRequest(
        image=content, options=classify_options(options), webhook_url=webhook_url
    )
    if request.options.store:
        request.filename = filename
    return request


def stream_config(
    options: Options, lane: Lane, tenant_id: str, key_id: str = ""
) -> classify_pb2.ClassifyStreamRequest:
    """Returns the first message of a stream.

    Raises:
        ValueError: the lane is unknown.
    """
    config = classify_pb2.ClassifyStreamConfig(
        options=classify_options(options),
        lane=classify_pb2.ClassifyStreamConfig.Lane.Value(lane),
        tenant_id=tenant_id,
        key_id=key_id,
    )
    return classify_pb2.ClassifyStreamRequest(config=config)


def batch_config(options: BatchOptions) -> batch_pb2.BatchConfig:
    """Returns the configuration of a batch; adds a request id, so that it can be sent again."""
    own = ("webhook_url", "request_id", "priority")
    return batch_pb2.BatchConfig(
        webhook_url=options.get("webhook_url", ""),
        request_id=options.get("request_id", "") or str(uuid.uuid4()),
        priority=options.get("priority", 0),
        options=classify_options({name: options[name] for name in options if name not in own}),  # type: ignore[literal-required]
    )


def create_batch_request(
    uris: Iterable[str], config: batch_pb2.BatchConfig
) -> batch_pb2.CreateBatchRequest:
    """Returns the request for a batch of images that the server fetches."""
    return batch_pb2.CreateBatchRequest(
        items=[batch_pb2.BatchItem(image_uri=uri) for uri in uris],
        options=config.options,
        webhook_url=config.webhook_url,
        request_id=config.request_id,
        priority=config.priority,
    )


def list_batches_request(state: BatchState | None) -> batch_pb2.ListBatchesRequest:
    """Returns the request for the first page of batches."""
    wanted = batch_pb2.Batch.State.Value(state or "STATE_UNSPECIFIED")
    return batch_pb2.ListBatchesRequest(page_size=PAGE_SIZE, state=wanted)


def list_deliveries_request(
    webhook_id: str, batch_id: str, state: DeliveryState | None
) -> admin_pb2.ListWebhookDeliveriesRequest:
    """Returns the request for the first page of deliveries."""
    wanted = admin_pb2.WebhookDelivery.State.Value(state or "STATE_UNSPECIFIED")
    return admin_pb2.ListWebhookDeliveriesRequest(
        webhook_id=webhook_id, page_size=PAGE_SIZE, batch_id=batch_id, state=wanted
    )


def name_of(name: Callable[[Number], str], number: Number) -> str:
    """Returns the name of an enum value; its number as text if this package has no name for it.

    Args:
        name: the method `Name` of the enum.
        number: the value.
    """
    try:
        return name(number)
    except ValueError:
        return str(number)


def classification(filename: str, wire: classify_pb2.ClassifyResponse) -> Classification:
    """Returns the answer for one image."""
    timing, reasons = wire.timing, types_pb2.Timing.BatchCloseReason
    return Classification(
        filename=filename,
        predictions=tuple(map(prediction, wire.predictions)),
        model=model_ref(wire.model),
        timing=Timing(
            decode_ms=timing.decode_ms,
            queue_ms=timing.queue_ms,
            inference_ms=timing.inference_ms,
            batch_size=timing.batch_size,
            batch_close_reason=name_of(reasons.Name, timing.batch_close_reason),
        ),
        processing_time_s=wire.processing_time,
        request_id=wire.request_id,
        heat_map=wire.heat_map,
        cache=name_of(classify_pb2.ClassifyResponse.Cache.Name, wire.cache) if wire.cache else "",
        warnings=_warnings(wire.warnings),
        image_id=wire.image_id,
        result_id=wire.result_id,
        neighbours=tuple(Neighbour(n.image_id, n.similarity) for n in wire.neighbours),
    )


def batch(wire: batch_pb2.Batch) -> Batch:
    """Returns a batch."""
    return Batch(
        batch_id=wire.batch_id,
        state=name_of(batch_pb2.Batch.State.Name, wire.state),
        state_message=wire.state_message,
        item_count=wire.item_count,
        succeeded_count=wire.succeeded_count,
        failed_count=wire.failed_count,
        pending_count=wire.pending_count,
        ignored_count=wire.ignored_count,
        create_time=wire.create_time.ToDatetime(UTC),
        start_time=time_of(wire, "start_time"),
        end_time=time_of(wire, "end_time"),
        webhook_url=wire.webhook_url,
        failures=tuple(
            BatchResult(f.item_id, f.filename, error=from_status(f.status, ""))
            for f in wire.failures
        ),
        items_per_s=wire.items_per_s,
        remaining_time=(
            wire.remaining_time.ToTimedelta() if wire.HasField("remaining_time") else None
        ),
    )


def batch_result(wire: batch_pb2.BatchResult) -> BatchResult:
    """Returns the outcome for one item."""
    if wire.status.code:
        return BatchResult(wire.item_id, wire.filename, error=from_status(wire.status, ""))
    return BatchResult(
        wire.item_id,
        wire.filename,
        predictions=tuple(map(prediction, wire.classification.predictions)),
        model=model_ref(wire.classification.model),
        warnings=_warnings(wire.classification.warnings),
    )


def _warnings(numbers: Iterable[types_pb2.ImageWarning.ValueType]) -> tuple[str, ...]:
    return tuple(name_of(types_pb2.ImageWarning.Name, number) for number in numbers)


def webhook(wire: admin_pb2.Webhook) -> Webhook:
    """Returns a webhook."""
    return Webhook(
        webhook_id=wire.webhook_id,
        url=wire.url,
        state=name_of(admin_pb2.Webhook.State.Name, wire.state),
        secret=wire.secret,
        previous_secret_expire_time=time_of(wire, "previous_secret_expire_time"),
        create_time=wire.create_time.ToDatetime(UTC),
    )


def delivery(wire: admin_pb2.WebhookDelivery) -> WebhookDelivery:
    """Returns a delivery."""
    return WebhookDelivery(
        delivery_id=wire.delivery_id,
        webhook_id=wire.webhook_id,
        event_type=wire.event_type,
        batch_id=wire.batch_id,
        url=wire.url,
        state=name_of(admin_pb2.WebhookDelivery.State.Name, wire.state),
        next_attempt_time=time_of(wire, "next_attempt_time"),
        attempt_count=wire.attempt_count,
        attempts=tuple(
            WebhookAttempt(a.start_time.ToDatetime(UTC), a.duration_ms, a.status_code)
            for a in wire.attempts
        ),
        create_time=wire.create_time.ToDatetime(UTC),
        end_time=time_of(wire, "end_time"),
    )


def category(wire: metadata_pb2.Category) -> Category:
    """Returns a category."""
    return Category(wire.category, wire.category_id, tuple(wire.ancestors))


def model(wire: metadata_pb2.Model) -> Model:
    """Returns a version of a model."""
    return Model(
        name=wire.name,
        version=wire.version,
        digest=wire.digest,
        state=name_of(metadata_pb2.Model.State.Name, wire.state),
        state_message=wire.state_message,
        default=wire.default,
        category_count=wire.category_count,
        input_width_px=wire.input_width_px,
        input_height_px=wire.input_height_px,
        activation=name_of(metadata_pb2.Model.Activation.Name, wire.activation),
        runtime=wire.runtime,
        device=wire.device,
        licence=wire.licence,
        origin=wire.origin,
        aliases=tuple(wire.aliases),
        canary_percent=wire.canary_percent,
        precision=wire.precision,
        localization=name_of(metadata_pb2.Model.Localization.Name, wire.localization),
        resident_bytes=wire.resident_bytes,
    )


def server_info(wire: metadata_pb2.ServerInfo) -> ServerInfo:
    """Returns the server's release, formats and limits."""
    limits = wire.limits
    return ServerInfo(
        version=wire.version,
        image_formats=tuple(wire.image_formats),
        limits=Limits(
            max_image_bytes=limits.max_image_bytes,
            max_image_pixels=limits.max_image_pixels,
            max_side_px=limits.max_side_px,
            max_aspect_ratio=limits.max_aspect_ratio,
            max_filter_categories=limits.max_filter_categories,
            default_deadline_s=limits.default_deadline_s,
            max_deadline_s=limits.max_deadline_s,
            max_stream_in_flight=limits.max_stream_in_flight,
            max_batch_items=limits.max_batch_items,
            max_batch_bytes=limits.max_batch_bytes,
        ),
        default_model=wire.default_model,
    )


def prediction(wire: types_pb2.Prediction) -> Prediction:
    return Prediction(
        category=wire.category,
        confidence=wire.confidence,
        category_id=wire.category_id,
        ancestors=tuple(wire.ancestors),
        bounding_box=_bounding_box(wire.bounding_box),
        raw_confidence=wire.raw_confidence if wire.HasField("raw_confidence") else None,
        bounding_boxes=tuple(
            (box.x_min, box.y_min, box.x_max, box.y_max) for box in wire.bounding_boxes
        ),
        source=name_of(types_pb2.Prediction.Source.Name, wire.source) if wire.source else "MODEL",
    )


def _bounding_box(edges: Sequence[int]) -> tuple[int, int, int, int] | None:
    if len(edges) != 4:
        return None
    left, top, right, bottom = edges
    return left, top, right, bottom


def model_ref(wire: types_pb2.ModelRef) -> ModelRef:
    return ModelRef(wire.name, wire.version, wire.digest)


def time_of(wire: Message, name: str) -> datetime | None:
    if not wire.HasField(name):
        return None
    moment: Timestamp = getattr(wire, name)
    return moment.ToDatetime(UTC)
