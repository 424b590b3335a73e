"""Webhooks: from the outbox to a receiver on this machine, by a real database and real HTTP."""

import time

import pytest
from image_categorizer import WebhookInvalid, verify_webhook
from image_categorizer_server.domain.webhook import DeliveryState
from image_categorizer_server.egress.fetcher import open_fetcher
from image_categorizer_server.errors import (
    DeliveryNotFound,
    InvalidRequest,
    QuotaExceeded,
    WebhookNotFound,
)
from image_categorizer_server.services.webhook import Webhooks
from image_categorizer_server.settings.fetch import FetchSettings
from image_categorizer_server.settings.webhook import WebhookSettings
from standardwebhooks import Webhook as Verifier

from tests.support.polling import elapsed
from tests.support.receiver import receiving
from tests.support.webhook_tools import TENANT, open_webhooks, unused


async def test_a_registered_address_is_notified_once_and_can_verify(emptied):
    async with receiving() as receiver, open_webhooks(emptied, receiver) as system:
        webhook, secret = await system.webhooks.create(TENANT, receiver.url)
        await system.end_batch("b-1")
        assert await system.deliveries.send_due() == 1
        assert await system.deliveries.send_due() == 0
        (message,) = receiver.messages
        content = Verifier(secret).verify(message.body, message.headers)
        assert content == verify_webhook(secret, message.headers, message.body)
        assert (content["type"], content["data"]["batch_id"]) == ("batch.completed", "b-1")
        assert set(content) == {"type", "timestamp", "data"}
        assert set(content["data"]) == {"batch_id", "state", "item_count", "end_time"}
        assert message.headers["content-type"] == "application/json"
        assert "." not in message.headers["webhook-id"]
        assert len(message.body) < 20_000
        (delivery,) = await system.log(webhook.webhook_id)
        assert delivery.state is DeliveryState.DELIVERED
        assert delivery.delivery_id == message.headers["webhook-id"]
        assert [a.status_code for a in delivery.attempts] == [204]


async def test_what_is_altered_old_or_another_s_is_refused(emptied):
    async with receiving() as one, receiving() as two, open_webhooks(emptied, one, two) as system:
        _, secret = await system.webhooks.create(TENANT, one.url)
        _, other = await system.webhooks.create(TENANT, two.url)
        await system.end_batch("b-1")
        await system.deliveries.send_due()
    (message,) = one.messages
    assert two.messages[0].headers["webhook-id"] != message.headers["webhook-id"]
    old = {**message.headers, "webhook-timestamp": str(int(time.time()) - 360)}
    for key, headers, body in (
        (other, message.headers, message.body),
        (secret, message.headers, message.body + b" "),
        (secret, old, message.body),
        (secret, {**message.headers, "webhook-id": "d-0"}, message.body),
    ):
        with pytest.raises(Exception, match="."):
            Verifier(key).verify(body, headers)
        with pytest.raises(WebhookInvalid):
            verify_webhook(key, headers, body)


async def test_during_a_rotation_old_and_new_secret_verify(emptied):
    async with receiving() as receiver, open_webhooks(emptied, receiver, rotation_s=1.5) as system:
        webhook, old = await system.webhooks.create(TENANT, receiver.url)
        rotated, new = await system.webhooks.rotate_secret(TENANT, webhook.webhook_id)
        assert rotated.previous_secret_expire_time is not None
        await system.end_batch("b-1")
        await system.deliveries.send_due()
        await elapsed(1.6)
        await system.end_batch("b-2")
        await system.deliveries.send_due()
    during, after = receiver.messages
    assert len(during.headers["webhook-signature"].split()) == 2
    for secret in (old, new):
        assert Verifier(secret).verify(during.body, during.headers)
        assert verify_webhook(secret, during.headers, during.body)
    assert verify_webhook(new, after.headers, after.body)
    with pytest.raises(WebhookInvalid):
        verify_webhook(old, after.headers, after.body)


async def test_a_batch_s_own_address_is_signed_by_the_webhook_default(emptied):
    async with receiving() as receiver, open_webhooks(emptied, receiver) as system:
        await system.end_batch("b-1", receiver.url)
        await system.deliveries.send_due()
        _, secret = await system.webhooks.rotate_secret(TENANT, "default")
        await system.end_batch("b-2", receiver.url, state="CANCELLED")
        await system.deliveries.send_due()
        _, second = receiver.messages
        assert Verifier(secret).verify(second.body, second.headers)["type"] == "batch.cancelled"
        logged = await system.log("default")
        assert [d.batch_id for d in logged] == ["b-2", "b-1"]
        assert {d.url for d in logged} == {receiver.url}
        assert [d.batch_id for d in await system.log("default", batch_id="b-1")] == ["b-1"]
        await system.webhooks.update(TENANT, "default", None, False)
        await system.end_batch("b-3", receiver.url)
        assert await system.deliveries.send_due() == 0


async def test_webhooks_are_the_tenant_s_own_and_bounded(emptied):
    async with receiving() as receiver, open_webhooks(emptied, receiver, max_webhooks=2) as system:
        webhooks = system.webhooks
        first, secret = await webhooks.create(TENANT, receiver.url)
        second, other = await webhooks.create(TENANT, receiver.url)
        assert secret != other
        with pytest.raises(QuotaExceeded):
            await webhooks.create(TENANT, receiver.url)
        listed = [w.webhook_id for w in await webhooks.list_all(TENANT)]
        assert listed == ["default", first.webhook_id, second.webhook_id]
        for call in (
            webhooks.get("other", first.webhook_id),
            webhooks.update("other", first.webhook_id, None, False),
            webhooks.delete("other", first.webhook_id),
            webhooks.rotate_secret("other", first.webhook_id),
            webhooks.redeliver("other", first.webhook_id, "d-1"),
        ):
            with pytest.raises(WebhookNotFound):
                await call
        with pytest.raises(DeliveryNotFound):
            await webhooks.redeliver(TENANT, first.webhook_id, "d-1")
        await system.end_batch("b-1", tenant="other")
        assert await system.deliveries.send_due() == 0
        await webhooks.delete(TENANT, first.webhook_id)
        with pytest.raises(WebhookNotFound):
            await webhooks.get(TENANT, first.webhook_id)
        with pytest.raises(InvalidRequest):
            await webhooks.delete(TENANT, "default")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://127.0.0.1/",
        "https://localhost/",
        "https://[::1]/",
        "ftp://a.b/",
        "x" * 3000,
    ],
)
async def test_addresses_that_may_not_be_called_are_not_registered(emptied, url):
    async with open_fetcher(FetchSettings(), unused) as fetcher:
        with pytest.raises(InvalidRequest, match="url"):
            await Webhooks(WebhookSettings(), fetcher).create(TENANT, url)
