# Generated from _aio/webhooks.py by tools/sync_twin.py; do not edit.
"""The client's webhooks."""

from collections.abc import Iterator

from image_categorizer import _wire
from image_categorizer._sync.connection import Connection
from image_categorizer._sync.listing import listing
from image_categorizer._values import DeliveryState, Webhook, WebhookDelivery
from image_categorizer.v1 import admin_pb2


class Webhooks:
    """The tenant's webhooks: `client.webhooks`. Needs a key of the role operator.

    A webhook is an address that receives a message each time a batch ends. Delivery is at least
    once; see `verify_webhook`.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(self, url: str) -> Webhook:
        """Registers an address for the messages of all batches.

            webhook = client.webhooks.create("https://example.com/hook")
            print(webhook.webhook_id, webhook.secret)

        Args:
            url: an https address on the public Internet, at most 2,048 characters.

        Returns:
            The webhook with its `secret`, which the server never shows again.

        Raises:
            InvalidRequest: the server may not call this address.
            QuotaExceeded: the tenant has the maximum number of webhooks.
            RoleInsufficient: the key does not have the role operator.
        """
        request = admin_pb2.CreateWebhookRequest(url=url)
        return _wire.webhook(
            self._connection.call_once(self._connection.stubs.admin.CreateWebhook, request)
        )

    def get(self, webhook_id: str) -> Webhook:
        """Returns one webhook, without its secret.

        Raises:
            WebhookNotFound: there is no such webhook.
        """
        request = admin_pb2.GetWebhookRequest(webhook_id=webhook_id)
        return _wire.webhook(
            self._connection.call(self._connection.stubs.admin.GetWebhook, request)
        )

    @listing
    def list(self) -> Iterator[Webhook]:
        """Yields the webhooks: `default` first, then the oldest first.

        Raises:
            CategorizerError: see `image_categorizer.errors`.
        """
        request = admin_pb2.ListWebhooksRequest(page_size=_wire.PAGE_SIZE)
        for page in self._connection.pages(self._connection.stubs.admin.ListWebhooks, request):
            for wire in page.webhooks:
                yield _wire.webhook(wire)

    def update(
        self, webhook_id: str, *, url: str | None = None, enabled: bool | None = None
    ) -> Webhook:
        """Changes the arguments that are not None.

        Args:
            webhook_id: the webhook.
            url: the new address, also for messages that wait. Not for `default`, which has none.
            enabled: whether it receives messages. False also drops the messages that wait.

        Raises:
            WebhookNotFound: there is no such webhook.
            InvalidRequest: the server may not call this address.
        """
        request = admin_pb2.UpdateWebhookRequest(webhook_id=webhook_id, url=url, enabled=enabled)
        return _wire.webhook(
            self._connection.call_once(self._connection.stubs.admin.UpdateWebhook, request)
        )

    def delete(self, webhook_id: str) -> None:
        """Deletes a webhook and the record of its deliveries.

        Raises:
            WebhookNotFound: there is no such webhook.
        """
        request = admin_pb2.DeleteWebhookRequest(webhook_id=webhook_id)
        self._connection.call_once(self._connection.stubs.admin.DeleteWebhook, request)

    def rotate_secret(self, webhook_id: str) -> Webhook:
        """Replaces the secret; for a day, messages carry the signatures of both secrets.

        Returns:
            The webhook with its new `secret`, which the server never shows again.

        Raises:
            WebhookNotFound: there is no such webhook.
        """
        request = admin_pb2.RotateWebhookSecretRequest(webhook_id=webhook_id)
        return _wire.webhook(
            self._connection.call_once(self._connection.stubs.admin.RotateWebhookSecret, request)
        )

    @listing
    def deliveries(
        self, webhook_id: str, *, batch_id: str = "", state: DeliveryState | None = None
    ) -> Iterator[WebhookDelivery]:
        """Yields the messages to a webhook, sent or waiting, the newest first.

            for delivery in client.webhooks.deliveries(webhook_id, state="FAILED"):
                client.webhooks.redeliver(webhook_id, delivery.delivery_id)

        Args:
            webhook_id: the webhook.
            batch_id: only messages about this batch. Default: all.
            state: only messages in this state. Default: all.

        Raises:
            WebhookNotFound: there is no such webhook.
        """
        request = _wire.list_deliveries_request(webhook_id, batch_id, state)
        method = self._connection.stubs.admin.ListWebhookDeliveries
        for page in self._connection.pages(method, request):
            for wire in page.deliveries:
                yield _wire.delivery(wire)

    def redeliver(self, webhook_id: str, delivery_id: str) -> WebhookDelivery:
        """Sends a message again, now, with the same `webhook-id`.

        Raises:
            WebhookNotFound: there is no such webhook.
            DeliveryNotFound: the webhook has no such delivery.
            WebhookDisabled: the webhook is disabled; enable it first.
        """
        request = admin_pb2.RedeliverWebhookRequest(webhook_id=webhook_id, delivery_id=delivery_id)
        return _wire.delivery(
            self._connection.call_once(self._connection.stubs.admin.RedeliverWebhook, request)
        )
