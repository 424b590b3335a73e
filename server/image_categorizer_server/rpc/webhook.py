"""AdminService: webhooks and their deliveries."""

import grpc
from image_categorizer.v1 import admin_pb2

from image_categorizer_server.domain.webhook import (
    Delivery,
    DeliveryAttempt,
    DeliveryState,
    Webhook,
)
from image_categorizer_server.errors import DeliveryNotFound, InvalidRequest, WebhookNotFound
from image_categorizer_server.paging import Page, page_of
from image_categorizer_server.rpc import pages
from image_categorizer_server.rpc.call import current_tenant
from image_categorizer_server.rpc.convert import timestamp
from image_categorizer_server.rpc.validation import IDENTIFIER, raise_if_any, required
from image_categorizer_server.services.webhook import Webhooks

Context = grpc.aio.ServicerContext


class WebhookServicer:
    """Serves the RPCs of AdminService about webhooks."""

    def __init__(self, webhooks: Webhooks, max_page_bytes: int) -> None:
        self._webhooks = webhooks
        self._max_page_bytes = max_page_bytes

    async def CreateWebhook(
        self,
        request: admin_pb2.CreateWebhookRequest,
        context: Context[admin_pb2.CreateWebhookRequest, admin_pb2.Webhook],
    ) -> admin_pb2.Webhook:
        return _webhook(*await self._webhooks.create(current_tenant(), request.url))

    async def GetWebhook(
        self,
        request: admin_pb2.GetWebhookRequest,
        context: Context[admin_pb2.GetWebhookRequest, admin_pb2.Webhook],
    ) -> admin_pb2.Webhook:
        webhook_id = _webhook_id(request.webhook_id)
        return _webhook(await self._webhooks.get(current_tenant(), webhook_id))

    async def ListWebhooks(
        self,
        request: admin_pb2.ListWebhooksRequest,
        context: Context[admin_pb2.ListWebhooksRequest, admin_pb2.ListWebhooksResponse],
    ) -> admin_pb2.ListWebhooksResponse:
        everything = await self._webhooks.list_all(current_tenant())
        found = page_of(everything, request.page_size, request.page_token)
        page = pages.cut(found, _webhook, self._max_page_bytes)
        return admin_pb2.ListWebhooksResponse(
            webhooks=page.messages, next_page_token=page.next_page_token
        )

    async def UpdateWebhook(
        self,
        request: admin_pb2.UpdateWebhookRequest,
        context: Context[admin_pb2.UpdateWebhookRequest, admin_pb2.Webhook],
    ) -> admin_pb2.Webhook:
        return _webhook(
            await self._webhooks.update(
                current_tenant(),
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
        await self._webhooks.delete(current_tenant(), _webhook_id(request.webhook_id))
        return admin_pb2.DeleteWebhookResponse()

    async def RotateWebhookSecret(
        self,
        request: admin_pb2.RotateWebhookSecretRequest,
        context: Context[admin_pb2.RotateWebhookSecretRequest, admin_pb2.Webhook],
    ) -> admin_pb2.Webhook:
        webhook_id = _webhook_id(request.webhook_id)
        return _webhook(*await self._webhooks.rotate_secret(current_tenant(), webhook_id))

    async def ListWebhookDeliveries(
        self,
        request: admin_pb2.ListWebhookDeliveriesRequest,
        context: Context[
            admin_pb2.ListWebhookDeliveriesRequest, admin_pb2.ListWebhookDeliveriesResponse
        ],
    ) -> admin_pb2.ListWebhookDeliveriesResponse:
        webhook_id = _webhook_id(request.webhook_id)
        wrong: list[tuple[str, str]] = []
        if request.batch_id and not IDENTIFIER.fullmatch(request.batch_id):
            wrong.append(("batch_id", "is not the id of a batch"))
        raise_if_any(wrong)
        tenant_id, state = current_tenant(), _state(request.state)

        async def deliveries(size: int, token: str) -> Page[Delivery]:
            return await self._webhooks.list_deliveries(
                tenant_id,
                webhook_id,
                batch_id=request.batch_id,
                state=state,
                page_size=size,
                page_token=token,
            )

        page = await pages.read(request, deliveries, _delivery, self._max_page_bytes)
        return admin_pb2.ListWebhookDeliveriesResponse(
            deliveries=page.messages, next_page_token=page.next_page_token
        )

    async def RedeliverWebhook(
        self,
        request: admin_pb2.RedeliverWebhookRequest,
        context: Context[admin_pb2.RedeliverWebhookRequest, admin_pb2.WebhookDelivery],
    ) -> admin_pb2.WebhookDelivery:
        webhook_id, delivery_id = _webhook_id(request.webhook_id), request.delivery_id
        wrong: list[tuple[str, str]] = []
        required("delivery_id", delivery_id, wrong)
        raise_if_any(wrong)
        if not IDENTIFIER.fullmatch(delivery_id):
            raise DeliveryNotFound("the webhook has no such delivery")
        return _delivery(await self._webhooks.redeliver(current_tenant(), webhook_id, delivery_id))


def _webhook_id(text: str) -> str:
    wrong: list[tuple[str, str]] = []
    required("webhook_id", text, wrong)
    raise_if_any(wrong)
    if not IDENTIFIER.fullmatch(text):
        raise WebhookNotFound("no such webhook")
    return text


def _state(value: admin_pb2.WebhookDelivery.State.ValueType) -> DeliveryState | None:
    if not value:
        return None
    if value not in admin_pb2.WebhookDelivery.State.values():
        raise InvalidRequest.of([("state", f"{value} is not a state")])
    return DeliveryState(admin_pb2.WebhookDelivery.State.Name(value))


def _webhook(value: Webhook, secret: str = "") -> admin_pb2.Webhook:
    return admin_pb2.Webhook(
        webhook_id=value.webhook_id,
        url=value.url,
        state=admin_pb2.Webhook.State.Value(value.state.value),
        secret=secret,
        previous_secret_expire_time=timestamp(value.previous_secret_expire_time),
        create_time=timestamp(value.create_time),
    )


def _delivery(value: Delivery) -> admin_pb2.WebhookDelivery:
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
