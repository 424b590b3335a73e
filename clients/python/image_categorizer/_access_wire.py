"""Converts between the clients' values about access and protobuf messages; see `_wire`."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import cast

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp

from image_categorizer._access_values import (
    ApiKey,
    AuditEvent,
    AuditFilter,
    Caller,
    KeyChanges,
    KeyState,
    Tenant,
    TenantLimits,
    Usage,
    UsageGroup,
    UsageRow,
)
from image_categorizer._wire import PAGE_SIZE, name_of, time_of
from image_categorizer.v1 import audit_pb2, caller_pb2, key_pb2, tenant_pb2, usage_pb2

KEY_FIELDS = ("scopes", "allowed_addresses", "expire_time")
"""What an API key need not have."""


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
        delete_time=time_of(wire, "delete_time"),
        limits=_limits(wire.limits),
    )


def _limits(wire: tenant_pb2.TenantLimits) -> TenantLimits:
    fields = {field.name: value for field, value in wire.ListFields()}
    return cast("TenantLimits", fields)


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
        expire_time=time_of(wire, "expire_time"),
        revoke_time=time_of(wire, "revoke_time"),
        last_use_time=time_of(wire, "last_use_time"),
        previous_secret_expire_time=time_of(wire, "previous_secret_expire_time"),
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


def caller(wire: caller_pb2.Caller) -> Caller:
    """Returns who calls."""
    return Caller(
        actor_id=wire.actor_id,
        tenant_id=wire.tenant_id,
        role=wire.role,
        scopes=tuple(wire.scopes),
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
