"""Webhooks: from the outbox to a receiver on this machine, by a real database and real HTTP."""

import asyncio
import json
import os
import signal
import statistics
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import asyncpg
import pytest
from image_categorizer import WebhookInvalid, verify_webhook
from image_categorizer_server.deliveries import Deliveries
from image_categorizer_server.errors import (
    DeliveryNotFound,
    InvalidRequest,
    QuotaExceeded,
    WebhookDisabled,
    WebhookNotFound,
)
from image_categorizer_server.fetcher import open_fetcher
from image_categorizer_server.outside_groups import FetchSettings
from image_categorizer_server.webhook_domain import DeliveryState, WebhookState
from image_categorizer_server.webhook_groups import WebhookSettings
from image_categorizer_server.webhooks import Webhooks
from standardwebhooks import Webhook as Verifier

from tests.receiver import receiving

TENANT = "default"
FAST = {"retry_factor": 0.01, "poll_interval_s": 0.05, "timeout_s": 1, "lease_s": 2}


@dataclass
class House:
    """Webhooks and their sender, which may call the receivers of the test."""

    webhooks: Webhooks
    deliveries: Deliveries
    url: str

    @asynccontextmanager
    async def sending(self):
        stop = asyncio.Event()
        running = asyncio.create_task(self.deliveries.run(stop))
        try:
            yield
        finally:
            stop.set()
            await running

    async def end_batch(self, batch_id, webhook_url="", tenant=TENANT, state="COMPLETED", count=1):
        payload = {
            "type": f"batch.{state.lower()}",
            "batch_id": batch_id,
            "state": state,
            "item_count": 3,
            "end_time": "2026-11-22T23:00:00+00:00",
            "webhook_url": webhook_url,
        }
        connection = await asyncpg.connect(self.url)
        await connection.executemany(
            "INSERT INTO outbox (tenant_id, kind, batch_id, payload, create_time, take_after)"
            " VALUES ($1, 'webhook', $2, $3, now(), now())",
            [(tenant, batch_id, json.dumps(payload))] * count,
        )
        await connection.close()

    async def log(self, webhook_id, **wanted):
        everything = {"batch_id": "", "state": None, "page_size": 100, "page_token": ""} | wanted
        return (await self.webhooks.list_deliveries(TENANT, webhook_id, **everything))[0]

    async def ended(self, webhook_id, count=1):
        """Returns the deliveries once `count` have ended."""
        async with asyncio.timeout(20):
            while True:
                found = await self.log(webhook_id)
                done = [d for d in found if d.state is not DeliveryState.PENDING]
                if len(done) >= count:
                    return done
                await asyncio.sleep(0.02)


@asynccontextmanager
async def house_of(url, *receivers, **settings):
    chosen = WebhookSettings(**FAST | settings)
    fetch = FetchSettings(
        allow_http=True,
        allowed_ports=tuple(receiver.port for receiver in receivers),
        allowed_networks=("127.0.0.0/8",),
        max_connections=chosen.max_in_flight,
    )
    async with open_fetcher(fetch, unused) as fetcher:
        yield House(Webhooks(chosen, fetcher), Deliveries(chosen, fetcher), url)


async def unused(uri, max_bytes):
    raise AssertionError


@pytest.fixture
async def emptied(database, empty_database):
    connection = await asyncpg.connect(empty_database)
    await connection.execute("TRUNCATE webhooks, webhook_deliveries, outbox")
    await connection.close()
    return empty_database


async def test_a_registered_address_is_told_once_and_can_verify(emptied):
    async with receiving() as receiver, house_of(emptied, receiver) as house:
        webhook, secret = await house.webhooks.create(TENANT, receiver.url)
        await house.end_batch("b-1")
        assert await house.deliveries.send_due() == 1
        assert await house.deliveries.send_due() == 0
        (message,) = receiver.messages
        content = Verifier(secret).verify(message.body, message.headers)
        assert content == verify_webhook(secret, message.headers, message.body)
        assert (content["type"], content["data"]["batch_id"]) == ("batch.completed", "b-1")
        assert set(content) == {"type", "timestamp", "data"}
        assert set(content["data"]) == {"batch_id", "state", "item_count", "end_time"}
        assert message.headers["content-type"] == "application/json"
        assert "." not in message.headers["webhook-id"]
        assert len(message.body) < 20_000
        (delivery,) = await house.log(webhook.webhook_id)
        assert delivery.state is DeliveryState.DELIVERED
        assert delivery.delivery_id == message.headers["webhook-id"]
        assert [a.status_code for a in delivery.attempts] == [204]


async def test_what_is_altered_old_or_another_s_is_refused(emptied):
    async with receiving() as one, receiving() as two, house_of(emptied, one, two) as house:
        _, secret = await house.webhooks.create(TENANT, one.url)
        _, other = await house.webhooks.create(TENANT, two.url)
        await house.end_batch("b-1")
        await house.deliveries.send_due()
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
    async with receiving() as receiver, house_of(emptied, receiver, rotation_s=1.5) as house:
        webhook, old = await house.webhooks.create(TENANT, receiver.url)
        rotated, new = await house.webhooks.rotate_secret(TENANT, webhook.webhook_id)
        assert rotated.previous_secret_expire_time is not None
        await house.end_batch("b-1")
        await house.deliveries.send_due()
        await asyncio.sleep(1.6)
        await house.end_batch("b-2")
        await house.deliveries.send_due()
    during, after = receiver.messages
    assert len(during.headers["webhook-signature"].split()) == 2
    for secret in (old, new):
        assert Verifier(secret).verify(during.body, during.headers)
        assert verify_webhook(secret, during.headers, during.body)
    assert verify_webhook(new, after.headers, after.body)
    with pytest.raises(WebhookInvalid):
        verify_webhook(old, after.headers, after.body)


async def test_a_batch_s_own_address_is_signed_by_the_webhook_default(emptied):
    async with receiving() as receiver, house_of(emptied, receiver) as house:
        await house.end_batch("b-1", receiver.url)
        await house.deliveries.send_due()
        _, secret = await house.webhooks.rotate_secret(TENANT, "default")
        await house.end_batch("b-2", receiver.url, state="CANCELLED")
        await house.deliveries.send_due()
        _, second = receiver.messages
        assert Verifier(secret).verify(second.body, second.headers)["type"] == "batch.cancelled"
        logged = await house.log("default")
        assert [d.batch_id for d in logged] == ["b-2", "b-1"]
        assert {d.url for d in logged} == {receiver.url}
        assert [d.batch_id for d in await house.log("default", batch_id="b-1")] == ["b-1"]
        await house.webhooks.update(TENANT, "default", None, False)
        await house.end_batch("b-3", receiver.url)
        assert await house.deliveries.send_due() == 0


async def test_failures_are_tried_again_with_the_same_id_and_new_signatures(emptied):
    answers = ("500", "500", "500", "reset", "silence", "302 x|Location: /elsewhere")
    # 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, times this, is under 8 s.
    async with (
        receiving(*answers) as receiver,
        house_of(emptied, receiver, retry_factor=0.0001) as house,
    ):
        webhook, secret = await house.webhooks.create(TENANT, receiver.url)
        await house.end_batch("b-1")
        async with house.sending():
            (delivery,) = await house.ended(webhook.webhook_id)
    statuses = [a.status_code for a in reversed(delivery.attempts)]
    assert statuses == [500, 500, 500, 0, 0, 302, 204]
    assert (delivery.state, delivery.attempt_count) == (DeliveryState.DELIVERED, 7)
    assert {m.headers["webhook-id"] for m in receiver.messages} == {delivery.delivery_id}
    assert len(receiver.messages) == 7
    for message in receiver.messages:
        assert Verifier(secret).verify(message.body, message.headers)


async def test_retry_after_is_kept(emptied):
    async with (
        receiving("429 x|Retry-After: 2") as receiver,
        house_of(emptied, receiver, retry_factor=0.0001) as house,
    ):
        webhook, _ = await house.webhooks.create(TENANT, receiver.url)
        await house.end_batch("b-1")
        async with house.sending():
            await house.ended(webhook.webhook_id)
    first, second = receiver.messages
    assert 2.0 <= second.at_s - first.at_s < 3.5


async def test_410_disables_until_it_is_enabled_and_sent_again(emptied):
    async with receiving("410") as receiver, house_of(emptied, receiver) as house:
        webhook, _ = await house.webhooks.create(TENANT, receiver.url)
        name = webhook.webhook_id
        await house.end_batch("b-1")
        await house.deliveries.send_due()
        assert (await house.webhooks.get(TENANT, name)).state is WebhookState.GONE
        await house.end_batch("b-2")
        assert await house.deliveries.send_due() == 0
        (delivery,) = await house.log(name)
        assert delivery.state is DeliveryState.FAILED
        with pytest.raises(WebhookDisabled):
            await house.webhooks.redeliver(TENANT, name, delivery.delivery_id)
        await house.webhooks.update(TENANT, name, None, True)
        again = await house.webhooks.redeliver(TENANT, name, delivery.delivery_id)
        assert (again.state, again.attempt_count) == (DeliveryState.PENDING, 0)
        await house.deliveries.send_due()
        (delivery,) = await house.log(name)
        assert [a.status_code for a in delivery.attempts] == [204, 410]
    assert len({m.headers["webhook-id"] for m in receiver.messages}) == 1


async def test_a_batch_s_own_address_that_answers_410_disables_nothing(emptied):
    async with receiving("410") as receiver, house_of(emptied, receiver) as house:
        for batch_id in ("b-1", "b-2"):
            await house.end_batch(batch_id, receiver.url)
            await house.deliveries.send_due()
        states = [d.state for d in await house.log("default")]
    assert states == [DeliveryState.DELIVERED, DeliveryState.FAILED]


async def test_it_is_given_up_after_ten_attempts(emptied):
    async with (
        receiving(otherwise="500") as receiver,
        house_of(emptied, receiver, retry_factor=1e-9) as house,
    ):
        webhook, _ = await house.webhooks.create(TENANT, receiver.url)
        await house.end_batch("b-1")
        async with house.sending():
            (delivery,) = await house.ended(webhook.webhook_id)
    assert (delivery.state, delivery.attempt_count) == (DeliveryState.FAILED, 10)
    assert len(receiver.messages) == 10


async def test_fifty_dead_receivers_do_not_hold_up_a_healthy_one(emptied):
    async with AsyncExitStack() as stack:
        dead = [await stack.enter_async_context(receiving(otherwise="silence")) for _ in range(50)]
        well = await stack.enter_async_context(receiving())
        house = await stack.enter_async_context(
            house_of(emptied, *dead, well, max_webhooks=100, timeout_s=3, lease_s=6)
        )
        for receiver in (*dead, well):
            await house.webhooks.create(TENANT, receiver.url)
        waits_s = []
        async with house.sending():
            for number in range(20):
                start_s = time.monotonic()
                await house.end_batch(f"b-{number}")
                messages = await well.wait_for(number + 1)
                waits_s.append(messages[-1].at_s - start_s)
                await asyncio.sleep(0.1)
        p95_s = statistics.quantiles(waits_s, n=20)[-1]
        print(f"webhooks beside 50 dead receivers: p95 {p95_s:.3f} s, longest {max(waits_s):.3f} s")
    assert p95_s <= 2


async def test_several_senders_send_each_once(emptied):
    async with receiving() as receiver, AsyncExitStack() as stack:
        houses = [await stack.enter_async_context(house_of(emptied, receiver)) for _ in range(4)]
        await houses[0].webhooks.create(TENANT, receiver.url)
        await houses[0].end_batch("b-1", count=200)
        async with AsyncExitStack() as senders:
            for house in houses:
                await senders.enter_async_context(house.sending())
            await receiver.wait_for(200)
            await asyncio.sleep(0.3)
    assert len({m.headers["webhook-id"] for m in receiver.messages}) == 200
    assert len(receiver.messages) == 200


async def test_webhooks_are_the_tenant_s_own_and_bounded(emptied):
    async with receiving() as receiver, house_of(emptied, receiver, max_webhooks=2) as house:
        webhooks = house.webhooks
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
        await house.end_batch("b-1", tenant="other")
        assert await house.deliveries.send_due() == 0
        await webhooks.delete(TENANT, first.webhook_id)
        with pytest.raises(WebhookNotFound):
            await webhooks.get(TENANT, first.webhook_id)
        with pytest.raises(InvalidRequest):
            await webhooks.delete(TENANT, "default")


async def test_deliveries_are_paged_and_forgotten(emptied):
    async with receiving() as receiver, house_of(emptied, receiver, keep_deliveries_s=60) as house:
        webhook, _ = await house.webhooks.create(TENANT, receiver.url)
        await house.end_batch("b-1", count=5)
        await house.deliveries.send_due()
        pages, token = [], ""
        while True:
            page, token = await house.webhooks.list_deliveries(
                TENANT,
                webhook.webhook_id,
                batch_id="",
                state=DeliveryState.DELIVERED,
                page_size=2,
                page_token=token,
            )
            pages.append([d.number for d in page])
            if not token:
                break
        assert [len(page) for page in pages] == [2, 2, 1]
        numbers = [number for page in pages for number in page]
        assert numbers == sorted(numbers, reverse=True)
        connection = await asyncpg.connect(emptied)
        await connection.execute(
            "UPDATE webhook_deliveries SET end_time = end_time - interval '61 s'"
        )
        await connection.close()
        async with house.sending():
            async with asyncio.timeout(5):
                while await house.log(webhook.webhook_id):
                    await asyncio.sleep(0.02)


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


@pytest.mark.parametrize("point", ["webhook.sending", "webhook.sent"])
async def test_killed_senders_lose_nothing(emptied, point):
    kills, events = 5, 40
    async with receiving() as receiver, house_of(emptied, receiver) as house:
        webhook, secret = await house.webhooks.create(TENANT, receiver.url)
        await house.end_batch("b-1", count=events)
        for passes in range(1, kills + 1):
            killed = await sender(emptied, receiver.port, f"{point}:{passes}")
            assert await asyncio.wait_for(killed.wait(), 20) == -signal.SIGKILL
        last = await sender(emptied, receiver.port, "")
        ended = await house.ended(webhook.webhook_id, events)
        last.kill()
        await last.wait()
    assert {d.state for d in ended} == {DeliveryState.DELIVERED}
    assert {m.headers["webhook-id"] for m in receiver.messages} == {d.delivery_id for d in ended}
    copies = len(receiver.messages) - events
    assert copies <= kills
    for message in receiver.messages:
        Verifier(secret).verify(message.body, message.headers)
    print(f"{kills} kills at {point}: {events} messages, {copies} of them twice")


async def sender(url, port, failpoint):
    return await asyncio.create_subprocess_exec(
        sys.executable, "tests/sender.py", url, str(port), env=os.environ | {"FAILPOINT": failpoint}
    )
