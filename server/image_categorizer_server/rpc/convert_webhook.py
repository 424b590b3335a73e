"""Domain → wire: webhooks and their deliveries."""

from image_categorizer.v1 import admin_pb2

from image_categorizer_server.domain.webhook import Delivery, DeliveryAttempt, Webhook
from image_categorizer_server.rpc.batch.convert import timestamp


def webhook(value: Webhook, secret: str = "") -> admin_pb2.Webhook:
    """Returns one webhook; with its secret where that was just made."""
    return admin_pb2.Webhook(
        webhook_id=value.webhook_id,
        url=value.url,
        state=admin_pb2.Webhook.State.Value(value.state.value),
        secret=secret,
        previous_secret_expire_time=timestamp(value.previous_secret_expire_time),
        create_time=timestamp(value.create_time),
    )


def delivery(value: Delivery) -> admin_pb2.WebhookDelivery:
    """Returns one delivery."""
    return admin_pb2.WebhookDelivery(
        delivery_id=value.delivery_id,
        webhook_id=value.webhook_id,
        event_type=value.event_type,
        batch_id=value.batch_id,
        url=value.url,
        state=admin_pb2.WebhookDelivery.State.Value(value.state.value),
        next_attempt_time=timestamp(value.next_attempt_time),
        attempt_count=value.attempt_count,
        attempts=map(_attempt, value.attempts),
        create_time=timestamp(value.create_time),
        end_time=timestamp(value.end_time),
    )


def _attempt(value: DeliveryAttempt) -> admin_pb2.WebhookAttempt:
    return admin_pb2.WebhookAttempt(
        start_time=timestamp(value.start_time),
        duration_ms=value.duration_ms,
        status_code=value.status_code,
    )
