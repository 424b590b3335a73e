"""Webhooks for ordinary code."""

from collections.abc import Iterator

from image_categorizer import _webhooks
from image_categorizer._sync_call import Caller
from image_categorizer._webhooks import DeliveryState, Webhook, WebhookDelivery
from image_categorizer.v1 import admin_pb2, admin_pb2_grpc


class WebhookMethods(Caller):
    """The part of `ImageCategorizationClient` that is about webhooks; for keys of an operator."""

    _admin: admin_pb2_grpc.AdminServiceStub

    def create_webhook(self, url: str) -> Webhook:
        """Registers an address, which is told of every batch's end from now on.

        The webhook that is returned has its `secret`, which is shown here and never again; see
        `verify_webhook`.

        Raises:
            InvalidRequest: the address may not be called.
            QuotaExceeded: there are as many webhooks as there may be.
            RoleInsufficient: the key is no operator's.
        """
        request = admin_pb2.CreateWebhookRequest(url=url)
        return _webhooks.webhook(self._call(self._admin.CreateWebhook, request))

    def get_webhook(self, webhook_id: str) -> Webhook:
        """Returns one webhook, without its secret.

        Raises:
            WebhookNotFound: there is none of that name.
        """
        request = admin_pb2.GetWebhookRequest(webhook_id=webhook_id)
        return _webhooks.webhook(self._call(self._admin.GetWebhook, request))

    def list_webhooks(self) -> Iterator[Webhook]:
        """Yields the tenant's webhooks, `default` first, then the oldest first."""
        request = _webhooks.list_request()
        for page in self._pages(self._admin.ListWebhooks, request):
            yield from map(_webhooks.webhook, page.webhooks)

    def update_webhook(
        self, webhook_id: str, *, url: str | None = None, enabled: bool | None = None
    ) -> Webhook:
        """Changes what is not None.

        Args:
            webhook_id: the webhook.
            url: where messages go from now on; not for `default`, which has no address.
            enabled: whether it is told; False ends what was to be sent.

        Raises:
            WebhookNotFound: there is none of that name.
            InvalidRequest: the address may not be called.
        """
        request = admin_pb2.UpdateWebhookRequest(webhook_id=webhook_id, url=url, enabled=enabled)
        return _webhooks.webhook(self._call(self._admin.UpdateWebhook, request))

    def delete_webhook(self, webhook_id: str) -> None:
        """Removes a webhook and the record of its deliveries.

        Raises:
            WebhookNotFound: there is none of that name.
        """
        request = admin_pb2.DeleteWebhookRequest(webhook_id=webhook_id)
        self._call(self._admin.DeleteWebhook, request)

    def rotate_webhook_secret(self, webhook_id: str) -> Webhook:
        """Makes a new secret; messages carry the signatures of both for a day.

        The webhook that is returned has the new `secret`, which is shown here and never again.

        Raises:
            WebhookNotFound: there is none of that name.
        """
        request = admin_pb2.RotateWebhookSecretRequest(webhook_id=webhook_id)
        return _webhooks.webhook(self._call(self._admin.RotateWebhookSecret, request))

    def webhook_deliveries(
        self, webhook_id: str, *, batch_id: str = "", state: DeliveryState | None = None
    ) -> Iterator[WebhookDelivery]:
        """Yields what was sent or is to be sent to a webhook, the newest first.

        Args:
            webhook_id: the webhook.
            batch_id: only what is about this batch.
            state: only what is in this state.

        Raises:
            WebhookNotFound: there is none of that name.
        """
        request = _webhooks.deliveries_request(webhook_id, batch_id, state)
        for page in self._pages(self._admin.ListWebhookDeliveries, request):
            yield from map(_webhooks.delivery, page.deliveries)

    def redeliver_webhook(self, webhook_id: str, delivery_id: str) -> WebhookDelivery:
        """Sends a message again, now, with the same `webhook-id`.

        Raises:
            WebhookNotFound: there is none of that name.
            DeliveryNotFound: the webhook has no such delivery.
            WebhookDisabled: the webhook is not told; enable it first.
        """
        request = admin_pb2.RedeliverWebhookRequest(webhook_id=webhook_id, delivery_id=delivery_id)
        return _webhooks.delivery(self._call(self._admin.RedeliverWebhook, request))
