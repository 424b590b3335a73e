"""Webhooks for asyncio."""

from collections.abc import AsyncIterator

from image_categorizer import _webhooks
from image_categorizer._aio_call import AsyncCaller
from image_categorizer._webhooks import DeliveryState, Webhook, WebhookDelivery
from image_categorizer.v1 import admin_pb2, admin_pb2_grpc


class AsyncWebhookMethods(AsyncCaller):
    """The part of `AsyncImageCategorizationClient` that is about webhooks."""

    _admin: "admin_pb2_grpc.AdminServiceAsyncStub"

    async def create_webhook(self, url: str) -> Webhook:
        """Registers an address; see `ImageCategorizationClient.create_webhook`."""
        request = admin_pb2.CreateWebhookRequest(url=url)
        return _webhooks.webhook(await self._call(self._admin.CreateWebhook, request))

    async def get_webhook(self, webhook_id: str) -> Webhook:
        """Returns one webhook; see `ImageCategorizationClient.get_webhook`."""
        request = admin_pb2.GetWebhookRequest(webhook_id=webhook_id)
        return _webhooks.webhook(await self._call(self._admin.GetWebhook, request))

    async def list_webhooks(self) -> AsyncIterator[Webhook]:
        """Yields the tenant's webhooks; see `ImageCategorizationClient.list_webhooks`."""
        request = _webhooks.list_request()
        async for page in self._pages(self._admin.ListWebhooks, request):
            for wire in page.webhooks:
                yield _webhooks.webhook(wire)

    async def update_webhook(
        self, webhook_id: str, *, url: str | None = None, enabled: bool | None = None
    ) -> Webhook:
        """Changes what is not None; see `ImageCategorizationClient.update_webhook`."""
        request = admin_pb2.UpdateWebhookRequest(webhook_id=webhook_id, url=url, enabled=enabled)
        return _webhooks.webhook(await self._call(self._admin.UpdateWebhook, request))

    async def delete_webhook(self, webhook_id: str) -> None:
        """Removes a webhook; see `ImageCategorizationClient.delete_webhook`."""
        request = admin_pb2.DeleteWebhookRequest(webhook_id=webhook_id)
        await self._call(self._admin.DeleteWebhook, request)

    async def rotate_webhook_secret(self, webhook_id: str) -> Webhook:
        """Makes a new secret; see `ImageCategorizationClient.rotate_webhook_secret`."""
        request = admin_pb2.RotateWebhookSecretRequest(webhook_id=webhook_id)
        return _webhooks.webhook(await self._call(self._admin.RotateWebhookSecret, request))

    async def webhook_deliveries(
        self, webhook_id: str, *, batch_id: str = "", state: DeliveryState | None = None
    ) -> AsyncIterator[WebhookDelivery]:
        """Yields what was sent; see `ImageCategorizationClient.webhook_deliveries`."""
        request = _webhooks.deliveries_request(webhook_id, batch_id, state)
        async for page in self._pages(self._admin.ListWebhookDeliveries, request):
            for wire in page.deliveries:
                yield _webhooks.delivery(wire)

    async def redeliver_webhook(self, webhook_id: str, delivery_id: str) -> WebhookDelivery:
        """Sends a message again; see `ImageCategorizationClient.redeliver_webhook`."""
        request = admin_pb2.RedeliverWebhookRequest(webhook_id=webhook_id, delivery_id=delivery_id)
        return _webhooks.delivery(await self._call(self._admin.RedeliverWebhook, request))
