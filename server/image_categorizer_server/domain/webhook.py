"""Plain values about webhooks: who is told when a batch ends, and each message to them."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

DEFAULT_WEBHOOK = "default"
"""Names the webhook that signs what goes to the `webhook_url` of batches; it has no address."""


class WebhookState(Enum):
    """Whether a webhook is told; see `Webhook.State` in admin.proto."""

    ENABLED = "ENABLED"
    DISABLED = "DISABLED"
    GONE = "GONE"


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address that is told when a batch ends, without its secret."""

    webhook_id: str
    url: str
    """Empty for the webhook `default`, which signs what goes to batches' own addresses."""
    state: WebhookState
    previous_secret_expire_time: datetime | None
    create_time: datetime


class DeliveryState(Enum):
    """How far a delivery is; see `WebhookDelivery.State` in admin.proto."""

    PENDING = "PENDING"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """One POST to a webhook."""

    start_time: datetime
    duration_ms: float
    status_code: int
    """0 where no answer came."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one webhook."""

    number: int
    """Counts all deliveries, in the order in which they were made."""
    delivery_id: str
    webhook_id: str
    event_type: str
    batch_id: str
    url: str
    state: DeliveryState
    next_attempt_time: datetime | None
    attempt_count: int
    attempts: tuple[DeliveryAttempt, ...]
    """The newest first."""
    create_time: datetime
    end_time: datetime | None


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """A delivery that was leased for one attempt."""

    number: int
    lease_token: int
    """Who holds another one may not write the outcome."""
    delivery_id: str
    tenant_id: str
    webhook_id: str
    url: str
    body: str
    attempt_count: int
    """Attempts before this one."""
    secrets: tuple[str, ...]
    """Those in force, the newest first; none where the tenant has no webhook `default` yet."""
