"""Converts between the clients' values and protobuf messages.

Answers may come from a newer server: a value of an enum that this package does not know becomes its
number as text, and nothing here raises because of it.
"""

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Protocol, TypeVar, cast

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from image_categorizer._statuses import from_status
from image_categorizer._values import (
    ApiKey,
    AuditEvent,
    AuditFilter,
    Batch,
    BatchOptions,
    BatchResult,
    BatchState,
    Caller,
    Category,
    Classification,
    DeliveryState,
    KeyChanges,
    KeyState,
    Lane,
    Limits,
    Model,
    ModelRef,
    Options,
    Prediction,
    ServerInfo,
    Tenant,
    TenantLimits,
    Timing,
    Usage,
    UsageGroup,
    UsageRow,
    Webhook,
    WebhookAttempt,
    WebhookDelivery,
)
from image_categorizer.v1 import (
    admin_pb2,
    audit_pb2,
    batch_pb2,
    caller_pb2,
    classify_pb2,
    key_pb2,
    metadata_pb2,
    tenant_pb2,
    types_pb2,
    usage_pb2,
)

Number = TypeVar("Number", bound=int)
PAGE_SIZE = 1000
KEY_FIELDS = ("scopes", "allowed_addresses", "expire_time")
"""What an API key need not have."""


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
    for name in ("include_categories", "exclude_categories"):
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
    source: bytes | str, options: Options, webhook_url: str
) -> classify_pb2.ClassifyRequest:
    """Returns the request for one image, given as its bytes or its URI."""
    request = classify_pb2.ClassifyRequest(
        options=classify_options(options), webhook_url=webhook_url
    )
    if isinstance(source, str):
        request.image_uri = source
    else:
        request.image = source
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


def list_keys_request(state: KeyState | None) -> key_pb2.ListApiKeysRequest:
    """Returns the request for the first page of API keys."""
    wanted = key_pb2.ApiKey.State.Value(state or "STATE_UNSPECIFIED")
    return key_pb2.ListApiKeysRequest(page_size=PAGE_SIZE, state=wanted)


def create_key_request(
    name: str,
    role: str,
    scopes: Sequence[str],
    allowed_addresses: Sequence[str],
    expire_time: datetime | None,
) -> key_pb2.CreateApiKeyRequest:
    """Returns the request for a new API key.

    Raises:
        TypeError: a single text stands for a list.
        ValueError: the time has no time zone.
    """
    return key_pb2.CreateApiKeyRequest(
        name=name,
        role=role,
        scopes=_list("scopes", scopes),
        allowed_addresses=_list("allowed_addresses", allowed_addresses),
        expire_time=timestamp(expire_time),
    )


def _list(name: str, value: Sequence[str]) -> Sequence[str]:
    if isinstance(value, str):
        raise TypeError(f"{name} takes a list, not the single text {value!r}")
    return value


def update_key_request(key_id: str, changes: KeyChanges) -> key_pb2.UpdateApiKeyRequest:
    """Returns the request that changes an API key; an empty value is one to clear.

    Raises:
        TypeError: there is no such field, or a single text stands for a list.
        ValueError: the time has no time zone.
    """
    if unknown := changes.keys() - KeyChanges.__annotations__.keys():
        raise TypeError(f"an API key has no {', '.join(sorted(unknown))} to change")
    return key_pb2.UpdateApiKeyRequest(
        key_id=key_id,
        name=changes.get("name"),
        role=changes.get("role"),
        scopes=_list("scopes", changes.get("scopes", ())),
        allowed_addresses=_list("allowed_addresses", changes.get("allowed_addresses", ())),
        expire_time=timestamp(changes.get("expire_time")),
        clear=[field for field in KEY_FIELDS if field in changes and not changes.get(field)],
    )


def rotate_key_request(key_id: str, overlap: timedelta | None) -> key_pb2.RotateApiKeyRequest:
    """Returns the request for a new secret; without an overlap, the server's default counts."""
    if overlap is None:
        return key_pb2.RotateApiKeyRequest(key_id=key_id)
    span = Duration()
    span.FromTimedelta(overlap)
    return key_pb2.RotateApiKeyRequest(key_id=key_id, overlap=span)


def timestamp(time: datetime | None) -> Timestamp | None:
    """Returns a time; None stays None.

    Raises:
        ValueError: the time has no time zone.
    """
    if time is None:
        return None
    if time.tzinfo is None:
        raise ValueError("a time needs a time zone, such as datetime.now(UTC)")
    wire = Timestamp()
    wire.FromDatetime(time)
    return wire


def list_events_request(given: AuditFilter) -> audit_pb2.ListAuditEventsRequest:
    """Returns the request for the first page of events."""
    fields = _filter_fields(given)
    return audit_pb2.ListAuditEventsRequest(page_size=PAGE_SIZE, **fields)  # type: ignore[arg-type]


def export_events_request(
    file_format: str, given: AuditFilter
) -> audit_pb2.ExportAuditEventsRequest:
    """Returns the request for events as a file."""
    fields = _filter_fields(given)
    return audit_pb2.ExportAuditEventsRequest(format=file_format, **fields)  # type: ignore[arg-type]


def _filter_fields(given: AuditFilter) -> dict[str, object]:
    fields: dict[str, object] = {key: value for key, value in given.items() if value is not None}
    if outcome := fields.get("outcome"):
        fields["outcome"] = audit_pb2.AuditEvent.Outcome.Value(str(outcome))
    return fields


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
        predictions=tuple(map(_prediction, wire.predictions)),
        model=_model_ref(wire.model),
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
        start_time=_time(wire, "start_time"),
        end_time=_time(wire, "end_time"),
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
        predictions=tuple(map(_prediction, wire.classification.predictions)),
        model=_model_ref(wire.classification.model),
        warnings=_warnings(wire.classification.warnings),
    )


def _warnings(numbers: Iterable[types_pb2.ImageWarning.ValueType]) -> tuple[str, ...]:
    return tuple(name_of(types_pb2.ImageWarning.Name, number) for number in numbers)


def update_tenant_request(
    tenant_id: str, display_name: str | None, limits: TenantLimits | None
) -> tenant_pb2.UpdateTenantRequest:
    """Returns the request that changes a tenant.

    Raises:
        TypeError: there is no such limit.
    """
    if unknown := (limits or {}).keys() - TenantLimits.__annotations__.keys():
        raise TypeError(f"a tenant has no limit {', '.join(sorted(unknown))}")
    return tenant_pb2.UpdateTenantRequest(
        tenant_id=tenant_id,
        display_name=display_name,
        limits=None if limits is None else tenant_pb2.TenantLimits(**limits),
    )


def tenant(wire: tenant_pb2.Tenant) -> Tenant:
    """Returns a tenant."""
    return Tenant(
        tenant_id=wire.tenant_id,
        display_name=wire.display_name,
        state=name_of(tenant_pb2.Tenant.State.Name, wire.state),
        create_time=wire.create_time.ToDatetime(UTC),
        delete_time=_time(wire, "delete_time"),
        limits=_limits(wire.limits),
    )


def _limits(wire: tenant_pb2.TenantLimits) -> TenantLimits:
    fields = {field.name: value for field, value in wire.ListFields()}
    return cast("TenantLimits", fields)


def webhook(wire: admin_pb2.Webhook) -> Webhook:
    """Returns a webhook."""
    return Webhook(
        webhook_id=wire.webhook_id,
        url=wire.url,
        state=name_of(admin_pb2.Webhook.State.Name, wire.state),
        secret=wire.secret,
        previous_secret_expire_time=_time(wire, "previous_secret_expire_time"),
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
        next_attempt_time=_time(wire, "next_attempt_time"),
        attempt_count=wire.attempt_count,
        attempts=tuple(
            WebhookAttempt(a.start_time.ToDatetime(UTC), a.duration_ms, a.status_code)
            for a in wire.attempts
        ),
        create_time=wire.create_time.ToDatetime(UTC),
        end_time=_time(wire, "end_time"),
    )


def api_key(wire: key_pb2.ApiKey) -> ApiKey:
    """Returns an API key."""
    return ApiKey(
        key_id=wire.key_id,
        name=wire.name,
        role=wire.role,
        scopes=tuple(wire.scopes),
        state=name_of(key_pb2.ApiKey.State.Name, wire.state),
        prefix=wire.prefix,
        allowed_addresses=tuple(wire.allowed_addresses),
        create_time=wire.create_time.ToDatetime(UTC),
        expire_time=_time(wire, "expire_time"),
        revoke_time=_time(wire, "revoke_time"),
        last_use_time=_time(wire, "last_use_time"),
        previous_secret_expire_time=_time(wire, "previous_secret_expire_time"),
        created_by=wire.created_by,
        secret=wire.secret,
    )


def audit_event(wire: audit_pb2.AuditEvent) -> AuditEvent:
    """Returns an event of the audit."""
    detail = MessageToDict(wire.detail)
    return AuditEvent(
        tenant_id=wire.tenant_id,
        seq=wire.seq,
        time=wire.time.ToDatetime(UTC),
        actor_id=wire.actor_id,
        action=wire.action,
        resource=wire.resource,
        outcome=name_of(audit_pb2.AuditEvent.Outcome.Name, wire.outcome),
        address=wire.address,
        request_id=wire.request_id,
        detail={name: _whole(value) for name, value in detail.items()},
        prev_hash=wire.prev_hash,
        hash=wire.hash,
    )


def _whole(value: object) -> object:
    """Returns an integer for a number without a fraction: on the wire all are fractions."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


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


def caller(wire: caller_pb2.Caller) -> Caller:
    """Returns who calls."""
    return Caller(
        actor_id=wire.actor_id,
        tenant_id=wire.tenant_id,
        role=wire.role,
        scopes=tuple(wire.scopes),
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


def usage_request(
    start_date: date | None, end_date: date | None, group_by: UsageGroup
) -> usage_pb2.GetUsageRequest:
    """Returns the request for what was used."""
    return usage_pb2.GetUsageRequest(
        start_date=start_date.isoformat() if start_date else "",
        end_date=end_date.isoformat() if end_date else "",
        group_by=group_by,
    )


def usage(wire: usage_pb2.GetUsageResponse) -> Usage:
    """Returns what was used."""
    return Usage(
        start_date=date.fromisoformat(wire.start_date),
        end_date=date.fromisoformat(wire.end_date),
        rows=tuple(map(_usage_row, wire.rows)),
        total=_usage_row(wire.total),
    )


def _usage_row(wire: usage_pb2.UsageRow) -> UsageRow:
    return UsageRow(
        day=date.fromisoformat(wire.day) if wire.day else None,
        key_id=wire.key_id,
        model=wire.model,
        images=wire.images,
        cached_images=wire.cached_images,
        failed_images=wire.failed_images,
        bytes=wire.bytes,
        model_ms=wire.model_ms,
    )


def _prediction(wire: types_pb2.Prediction) -> Prediction:
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
    )


def _bounding_box(edges: Sequence[int]) -> tuple[int, int, int, int] | None:
    if len(edges) != 4:
        return None
    left, top, right, bottom = edges
    return left, top, right, bottom


def _model_ref(wire: types_pb2.ModelRef) -> ModelRef:
    return ModelRef(wire.name, wire.version, wire.digest)


def _time(wire: Message, name: str) -> datetime | None:
    if not wire.HasField(name):
        return None
    moment: Timestamp = getattr(wire, name)
    return moment.ToDatetime(UTC)
