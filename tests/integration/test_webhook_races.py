"""Webhooks that change while their deliveries are made, and what is remembered of them."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from image_categorizer_server import clock
from image_categorizer_server.db import delivery as deliveries
from image_categorizer_server.db import webhook as webhooks
from image_categorizer_server.domain.webhook import DeliveryState, WebhookState
from image_categorizer_server.egress.fetcher import open_fetcher
from image_categorizer_server.services.delivery import Deliveries
from image_categorizer_server.services.webhook import Webhooks
from image_categorizer_server.settings.fetch import FetchSettings
from image_categorizer_server.settings.webhook import WebhookSettings

from tests.support.database import connect_as_owner
from tests.support.receiver import receiving
from tests.support.webhook_tools import FAST, TENANT, WebhookSystem, open_webhooks, unused

MADE = "SELECT webhook_id, state FROM webhook_deliveries"
REMEMBERED = "SELECT batch_id FROM outbox ORDER BY outbox_id"


@asynccontextmanager
async def connected_to(url):
    connection = await connect_as_owner(url)
    try:
        yield connection
    finally:
        await connection.close()


async def waits(task):
    """Passes a task that has not ended by itself after a while."""
    await asyncio.wait({task}, timeout=0.3)
    assert not task.done()


@pytest.mark.parametrize(
    ("change", "made"),
    [
        ("DELETE FROM webhooks", 0),
        ("UPDATE webhooks SET state = 'DISABLED'", 0),
        ("UPDATE webhooks SET secret = secret", 1),
    ],
)
async def test_deliveries_are_made_by_what_webhooks_are_after_a_change(emptied, change, made):
    async with (
        receiving() as receiver,
        open_webhooks(emptied, receiver) as system,
        connected_to(emptied) as other,
    ):
        await system.webhooks.create(TENANT, receiver.url)
        await system.end_batch("b-1")
        async with other.transaction():
            await other.execute(change)
            making = asyncio.create_task(deliveries.fan_out(clock.now(), 10))
            await waits(making)
        assert await making == 1
        assert len(await other.fetch(MADE)) == made
        assert await deliveries.fan_out(clock.now(), 10) == 0


async def test_a_webhook_takes_the_deliveries_with_it_that_are_being_made(emptied):
    async with (
        receiving() as receiver,
        open_webhooks(emptied, receiver) as system,
        connected_to(emptied) as other,
    ):
        webhook, _ = await system.webhooks.create(TENANT, receiver.url)
        await system.end_batch("b-1")
        async with other.transaction():
            await other.execute(deliveries.FAN_OUT, clock.now(), 10)
            removing = asyncio.create_task(system.webhooks.delete(TENANT, webhook.webhook_id))
            await waits(removing)
        await removing
        assert await other.fetch(MADE) == []


async def test_a_410_of_the_address_before_disables_nothing(emptied):
    async with receiving() as receiver, open_webhooks(emptied, receiver) as system:
        webhook, _ = await system.webhooks.create(TENANT, receiver.url)
        await system.end_batch("b-1")
        await deliveries.fan_out(clock.now(), 10)
        name, old = webhook.webhook_id, receiver.url
        await system.webhooks.update(TENANT, name, f"{old}/new", None)
        await webhooks.disable_gone(TENANT, name, old, clock.now())
        assert (await system.webhooks.get(TENANT, name)).state is WebhookState.ENABLED
        assert [d.state for d in await system.log(name)] == [DeliveryState.PENDING]
        await webhooks.disable_gone(TENANT, name, f"{old}/new", clock.now())
        assert (await system.webhooks.get(TENANT, name)).state is WebhookState.GONE
        assert [d.state for d in await system.log(name)] == [DeliveryState.FAILED]


async def test_ends_of_batches_are_remembered_for_a_time(emptied):
    async with (
        receiving() as receiver,
        open_webhooks(emptied, receiver, rows_per_statement=2, keep_events_s=60) as system,
        connected_to(emptied) as other,
    ):
        await system.end_batch("b-old", count=5)
        await system.deliveries.send_due()
        await other.execute("UPDATE outbox SET done_time = done_time - interval '61 s'")
        await system.end_batch("b-new")
        await system.deliveries.send_due()
        await system.end_batch("b-undone")
        await system.deliveries.clean_up()
        assert [row["batch_id"] for row in await other.fetch(REMEMBERED)] == ["b-new", "b-undone"]


async def test_who_gets_no_turn_at_a_host_has_made_no_attempt(emptied):
    settings = WebhookSettings(**FAST | {"timeout_s": 0.8})
    async with receiving("silence") as receiver:
        fetch = FetchSettings(
            allow_http=True,
            allowed_ports=(receiver.port,),
            allowed_networks=("127.0.0.0/8",),
            max_per_host=1,
            max_wait_s=0.3,
        )
        async with open_fetcher(fetch, unused) as fetcher:
            system = WebhookSystem(
                Webhooks(settings, fetcher), Deliveries(settings, fetcher), emptied
            )
            for number in range(2):
                await system.end_batch(f"b-{number}", f"{receiver.url}/{number}")
            await system.deliveries.send_due()
            later, first = sorted(await system.log("default"), key=lambda d: d.attempt_count)
            assert [attempt.status_code for attempt in first.attempts] == [0]
            assert (later.attempts, later.state) == ((), DeliveryState.PENDING)
            assert len(receiver.messages) == 1
            async with system.sending():
                await system.ended("default", 2)
    assert {message.headers["webhook-id"] for message in receiver.messages} == {
        first.delivery_id,
        later.delivery_id,
    }
