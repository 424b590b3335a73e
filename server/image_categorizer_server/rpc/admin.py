"""AdminService."""

import grpc
from image_categorizer.v1 import admin_pb2, admin_pb2_grpc

from image_categorizer_server.domain.webhook import DeliveryState
from image_categorizer_server.errors import DeliveryNotFound, InvalidRequest, WebhookNotFound
from image_categorizer_server.paging import page_of
from image_categorizer_server.rpc import convert_webhook as convert
from image_categorizer_server.rpc.call import current_call
from image_categorizer_server.rpc.validation import IDENTIFIER, raise_if_any, required
from image_categorizer_server.services.webhook import Webhooks

Context = grpc.aio.ServicerContext


class AdminServicer(admin_pb2_grpc.AdminServiceServicer):
    """Hands orders about webhooks on."""

    def __init__(self, webhooks: Webhooks) -> None:
        self._webhooks = webhooks

    async def CreateWebhook(
        self,
        request: admin_pb2.CreateWebhookRequest,
        context: Context[admin_pb2.CreateWebhookRequest, admin_pb2.Webhook],
    ) -> admin_pb2.Webhook:
        """Serves `CreateWebhook` of admin.proto."""
        return convert.webhook(*await self._webhooks.create(_tenant(), request.url))

    async def GetWebhook(
        self,
        request: admin_pb2.GetWebhookRequest,
        context: Context[admin_pb2.GetWebhookRequest, admin_pb2.Webhook],
    ) -> admin_pb2.Webhook:
        """Serves `GetWebhook` of admin.proto."""
        webhook_id = _webhook_id(request.webhook_id)
        return convert.webhook(await self._webhooks.get(_tenant(), webhook_id))

    async def ListWebhooks(
        self,
        request: admin_pb2.ListWebhooksRequest,
        context: Context[admin_pb2.ListWebhooksRequest, admin_pb2.ListWebhooksResponse],
    ) -> admin_pb2.ListWebhooksResponse:
        """Serves `ListWebhooks` of admin.proto."""
        everything = await self._webhooks.list_all(_tenant())
        page = page_of(everything, request.page_size, request.page_token)
        return admin_pb2.ListWebhooksResponse(
            webhooks=map(convert.webhook, page.items), next_page_token=page.next_page_token
        )

    async def UpdateWebhook(
        self,
        request: admin_pb2.UpdateWebhookRequest,
        context: Context[admin_pb2.UpdateWebhookRequest, admin_pb2.Webhook],
    ) -> admin_pb2.Webhook:
        """Serves `UpdateWebhook` of admin.proto."""
        return convert.webhook(
            await self._webhooks.update(
                _tenant(),
                _webhook_id(request.webhook_id),
                request.url if request.HasField("url") else None,
                request.enabled if request.HasField("enabled") else None,
            )
        )

    async def DeleteWebhook(
        self,
        request: admin_pb2.DeleteWebhookRequest,
        context: Context[admin_pb2.DeleteWebhookRequest, admin_pb2.DeleteWebhookResponse],
    ) -> admin_pb2.DeleteWebhookResponse:
        """Serves `DeleteWebhook` of admin.proto."""
        await self._webhooks.delete(_tenant(), _webhook_id(request.webhook_id))
        return admin_pb2.DeleteWebhookResponse()

    async def RotateWebhookSecret(
        self,
        request: admin_pb2.RotateWebhookSecretRequest,
        context: Context[admin_pb2.RotateWebhookSecretRequest, admin_pb2.Webhook],
    ) -> admin_pb2.Webhook:
        """Serves `RotateWebhookSecret` of admin.proto."""
        webhook_id = _webhook_id(request.webhook_id)
        return convert.webhook(*await self._webhooks.rotate_secret(_tenant(), webhook_id))

    async def ListWebhookDeliveries(
        self,
        request: admin_pb2.ListWebhookDeliveriesRequest,
        context: Context[
            admin_pb2.ListWebhookDeliveriesRequest, admin_pb2.ListWebhookDeliveriesResponse
        ],
    ) -> admin_pb2.ListWebhookDeliveriesResponse:
        """Serves `ListWebhookDeliveries` of admin.proto."""
        webhook_id = _webhook_id(request.webhook_id)
        wrong: list[tuple[str, str]] = []
        if request.batch_id and not IDENTIFIER.fullmatch(request.batch_id):
            wrong.append(("batch_id", "names no batch"))
        raise_if_any(wrong)
        page = await self._webhooks.list_deliveries(
            _tenant(),
            webhook_id,
            batch_id=request.batch_id,
            state=_state(request.state),
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return admin_pb2.ListWebhookDeliveriesResponse(
            deliveries=map(convert.delivery, page.items), next_page_token=page.next_page_token
        )

    async def RedeliverWebhook(
        self,
        request: admin_pb2.RedeliverWebhookRequest,
        context: Context[admin_pb2.RedeliverWebhookRequest, admin_pb2.WebhookDelivery],
    ) -> admin_pb2.WebhookDelivery:
        """Serves `RedeliverWebhook` of admin.proto."""
        webhook_id, delivery_id = _webhook_id(request.webhook_id), request.delivery_id
        wrong: list[tuple[str, str]] = []
        required("delivery_id", delivery_id, wrong)
        raise_if_any(wrong)
        if not IDENTIFIER.fullmatch(delivery_id):
            raise DeliveryNotFound("the webhook has no delivery of that name")
        return convert.delivery(await self._webhooks.redeliver(_tenant(), webhook_id, delivery_id))


def _tenant() -> str:
    return current_call.get().tenant_id


def _webhook_id(text: str) -> str:
    wrong: list[tuple[str, str]] = []
    required("webhook_id", text, wrong)
    raise_if_any(wrong)
    if not IDENTIFIER.fullmatch(text):
        raise WebhookNotFound("there is no webhook of that name")
    return text


def _state(value: admin_pb2.WebhookDelivery.State.ValueType) -> DeliveryState | None:
    if not value:
        return None
    if value not in admin_pb2.WebhookDelivery.State.values():
        raise InvalidRequest.of([("state", "is unknown")])
    return DeliveryState(admin_pb2.WebhookDelivery.State.Name(value))
