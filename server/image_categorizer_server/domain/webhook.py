"""Values about webhooks, and about the deliveries to them."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

DEFAULT_WEBHOOK = "default"
"""The webhook that signs messages to the `webhook_url` of batches.  It has no address."""


class WebhookState(Enum):
    """Whether a webhook gets messages; see `Webhook.State` in admin.proto."""

    ENABLED = "ENABLED"
    DISABLED = "DISABLED"
    GONE = "GONE"


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address that is notified when a batch ends, without its secret."""

    webhook_id: str
    url: str
    """Empty for the webhook `default`."""
    state: WebhookState
    previous_secret_expire_time: datetime | None
    create_time: datetime


class DeliveryState(Enum):
    """The state of a delivery; see `WebhookDelivery.State` in admin.proto."""

    PENDING = "PENDING"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """One POST to a webhook."""

    start_time: datetime
    duration_ms: float
    status_code: int
    """0 if no answer came."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one webhook."""

    number: int
    """Orders all deliveries by their creation."""
    delivery_id: str
    webhook_id: str
    event_type: str
    batch_id: str
    url: str
    state: DeliveryState
    next_attempt_time: datetime | None
    attempt_count: int
    attempts: tuple[DeliveryAttempt, ...]
    """Newest first."""
    create_time: datetime
    end_time: datetime | None


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """A delivery that is leased for one attempt."""

    number: int
    lease_token: int
    """Proves the lease: an outcome needs it."""
    delivery_id: str
    tenant_id: str
    webhook_id: str
    url: str
    body: str
    attempt_count: int
    """The number of attempts before this one."""
    secrets: tuple[str, ...]
    """The valid secrets, newest first; empty if the tenant has no webhook `default` yet."""
    traceparent: str = ""
    """Names the span that it follows from; empty without traces."""
