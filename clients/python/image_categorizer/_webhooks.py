"""What both clients share about webhooks: values and requests."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from image_categorizer.v1 import admin_pb2

WebhookState = Literal["ENABLED", "DISABLED", "GONE"]
"""See `Webhook.State` in admin.proto."""

DeliveryState = Literal["PENDING", "DELIVERED", "FAILED"]
"""See `WebhookDelivery.State` in admin.proto."""

PAGE_SIZE = 1000


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address that is told when a batch ends."""

    webhook_id: str
    url: str
    """Empty for `default`, which signs what goes to the `webhook_url` of requests."""
    state: WebhookState
    secret: str = field(repr=False)
    """Empty but where it was made just now: it is shown once."""
    previous_secret_expire_time: datetime | None
    """Until when messages carry the signature of the secret before, too."""
    create_time: datetime


@dataclass(frozen=True, slots=True)
class WebhookAttempt:
    """One POST of a delivery."""

    start_time: datetime
    duration_ms: float
    status_code: int
    """The HTTP status that it was answered with; 0 where no answer came."""


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """One message to one webhook, and the attempts at it."""

    delivery_id: str
    """The `webhook-id` of its messages."""
    webhook_id: str
    event_type: str
    """Such as `batch.completed`."""
    batch_id: str
    """Empty where it is about one classification."""
    url: str
    state: DeliveryState
    next_attempt_time: datetime | None
    attempt_count: int
    attempts: tuple[WebhookAttempt, ...]
    """The newest first, at most 20."""
    create_time: datetime
    end_time: datetime | None


def webhook(wire: admin_pb2.Webhook) -> Webhook:
    """Returns a webhook as a plain value."""
    state: WebhookState = admin_pb2.Webhook.State.Name(wire.state)  # type: ignore[assignment]
    return Webhook(
        webhook_id=wire.webhook_id,
        url=wire.url,
        state=state,
        secret=wire.secret,
        previous_secret_expire_time=_time(wire, "previous_secret_expire_time"),
        create_time=wire.create_time.ToDatetime(UTC),
    )


def delivery(wire: admin_pb2.WebhookDelivery) -> WebhookDelivery:
    """Returns a delivery as a plain value."""
    state: DeliveryState = admin_pb2.WebhookDelivery.State.Name(wire.state)  # type: ignore[assignment]
    return WebhookDelivery(
        delivery_id=wire.delivery_id,
        webhook_id=wire.webhook_id,
        event_type=wire.event_type,
        batch_id=wire.batch_id,
        url=wire.url,
        state=state,
        next_attempt_time=_time(wire, "next_attempt_time"),
        attempt_count=wire.attempt_count,
        attempts=tuple(
            WebhookAttempt(a.start_time.ToDatetime(UTC), a.duration_ms, a.status_code)
            for a in wire.attempts
        ),
        create_time=wire.create_time.ToDatetime(UTC),
        end_time=_time(wire, "end_time"),
    )


def list_request() -> admin_pb2.ListWebhooksRequest:
    """Returns the request for the first page of webhooks."""
    return admin_pb2.ListWebhooksRequest(page_size=PAGE_SIZE)


def deliveries_request(
    webhook_id: str, batch_id: str, state: DeliveryState | None
) -> admin_pb2.ListWebhookDeliveriesRequest:
    """Returns the request for the first page of deliveries."""
    wanted = admin_pb2.WebhookDelivery.State.Value(state or "STATE_UNSPECIFIED")
    return admin_pb2.ListWebhookDeliveriesRequest(
        webhook_id=webhook_id, page_size=PAGE_SIZE, batch_id=batch_id, state=wanted
    )


def _time(wire: Message, name: str) -> datetime | None:
    if not wire.HasField(name):
        return None
    moment: Timestamp = getattr(wire, name)
    return moment.ToDatetime(UTC)
