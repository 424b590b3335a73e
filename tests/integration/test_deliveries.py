"""What becomes of webhooks' messages: tries, refusals, many receivers, killed senders."""

import asyncio
import os
import signal
import statistics
import sys
import time
from contextlib import AsyncExitStack

import pytest
from image_categorizer_server.domain.webhook import DeliveryState, WebhookState
from image_categorizer_server.errors import (
    WebhookDisabled,
)
from image_categorizer_server.telemetry.metrics import REGISTRY
from standardwebhooks import Webhook as Verifier

from tests.conftest import SLACK_S
from tests.support.polling import elapsed
from tests.support.receiver import receiving
from tests.support.webhook_tools import TENANT, open_webhooks

GIVEN_UP = "categorizer_webhooks_given_up_total"


async def test_failures_are_tried_again_with_the_same_id_and_new_signatures(emptied):
    answers = ("500", "500", "500", "reset", "silence", "302 x|Location: /elsewhere")
    # 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, times this, is under 1 s.
    async with (
        receiving(*answers) as receiver,
        open_webhooks(emptied, receiver, retry_factor=0.00001) as system,
    ):
        webhook, secret = await system.webhooks.create(TENANT, receiver.url)
        await system.end_batch("b-1")
        async with system.sending():
            (delivery,) = await system.ended(webhook.webhook_id)
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
        open_webhooks(emptied, receiver, retry_factor=0.00001) as system,
    ):
        webhook, _ = await system.webhooks.create(TENANT, receiver.url)
        await system.end_batch("b-1")
        async with system.sending():
            await system.ended(webhook.webhook_id)
    first, second = receiver.messages
    assert 2.0 <= second.at_s - first.at_s < 2.0 + SLACK_S


async def test_a_receiver_whose_retry_after_is_nonsense_is_tried_again_by_the_schedule(emptied):
    pauses = ("Mon, 1 Jan 2020 10:00:00 +99999999999999999", "-1", "NaN", "\u0663")
    answers = [f"503 x|Retry-After: {pause}" for pause in pauses]
    async with (
        receiving(*answers) as receiver,
        open_webhooks(emptied, receiver, retry_factor=1e-5) as system,
    ):
        webhook, _ = await system.webhooks.create(TENANT, receiver.url)
        await system.end_batch("b-1")
        async with system.sending():
            (delivery,) = await system.ended(webhook.webhook_id)
    assert [a.status_code for a in delivery.attempts] == [204, 503, 503, 503, 503]


async def test_410_disables_until_it_is_enabled_and_sent_again(emptied):
    async with receiving("410") as receiver, open_webhooks(emptied, receiver) as system:
        webhook, _ = await system.webhooks.create(TENANT, receiver.url)
        name = webhook.webhook_id
        await system.end_batch("b-1")
        await system.deliveries.send_due()
        assert (await system.webhooks.get(TENANT, name)).state is WebhookState.GONE
        await system.end_batch("b-2")
        assert await system.deliveries.send_due() == 0
        (delivery,) = await system.log(name)
        assert delivery.state is DeliveryState.FAILED
        with pytest.raises(WebhookDisabled):
            await system.webhooks.redeliver(TENANT, name, delivery.delivery_id)
        await system.webhooks.update(TENANT, name, None, True)
        again = await system.webhooks.redeliver(TENANT, name, delivery.delivery_id)
        assert (again.state, again.attempt_count) == (DeliveryState.PENDING, 0)
        await system.deliveries.send_due()
        (delivery,) = await system.log(name)
        assert [a.status_code for a in delivery.attempts] == [204, 410]
    assert len({m.headers["webhook-id"] for m in receiver.messages}) == 1


async def test_a_batch_s_own_address_that_answers_410_disables_nothing(emptied):
    async with receiving("410") as receiver, open_webhooks(emptied, receiver) as system:
        for batch_id in ("b-1", "b-2"):
            await system.end_batch(batch_id, receiver.url)
            await system.deliveries.send_due()
        states = [d.state for d in await system.log("default")]
    assert states == [DeliveryState.DELIVERED, DeliveryState.FAILED]


async def test_it_is_given_up_after_ten_attempts(emptied):
    given_up = REGISTRY.get_sample_value(GIVEN_UP)
    assert given_up is not None
    async with (
        receiving(otherwise="500") as receiver,
        open_webhooks(emptied, receiver, retry_factor=1e-9) as system,
    ):
        webhook, _ = await system.webhooks.create(TENANT, receiver.url)
        await system.end_batch("b-1")
        async with system.sending():
            (delivery,) = await system.ended(webhook.webhook_id)
    assert (delivery.state, delivery.attempt_count) == (DeliveryState.FAILED, 10)
    assert REGISTRY.get_sample_value(GIVEN_UP) == given_up + 1
    assert len(receiver.messages) == 10


async def test_fifty_dead_receivers_do_not_hold_up_a_healthy_one(emptied):
    async with AsyncExitStack() as stack:
        dead = [await stack.enter_async_context(receiving(otherwise="silence")) for _ in range(50)]
        well = await stack.enter_async_context(receiving())
        system = await stack.enter_async_context(
            open_webhooks(emptied, *dead, well, max_webhooks=100, timeout_s=3, lease_s=6)
        )
        for receiver in (*dead, well):
            await system.webhooks.create(TENANT, receiver.url)
        waits_s = []
        async with system.sending():
            for number in range(20):
                start_s = time.monotonic()
                await system.end_batch(f"b-{number}")
                messages = await well.wait_for(number + 1)
                waits_s.append(messages[-1].at_s - start_s)
                await elapsed(0.1)
        p95_s = statistics.quantiles(waits_s, n=20)[-1]
        print(f"webhooks beside 50 dead receivers: p95 {p95_s:.3f} s, longest {max(waits_s):.3f} s")
    assert p95_s < 3  # nobody waited for one who is silent


async def test_several_senders_send_each_once(emptied):
    async with receiving() as receiver, AsyncExitStack() as stack:
        systems = [
            await stack.enter_async_context(open_webhooks(emptied, receiver)) for _ in range(4)
        ]
        await systems[0].webhooks.create(TENANT, receiver.url)
        await systems[0].end_batch("b-1", count=200)
        async with AsyncExitStack() as senders:
            for system in systems:
                await senders.enter_async_context(system.sending())
            await receiver.wait_for(200)
            await elapsed(0.3)
    assert len({m.headers["webhook-id"] for m in receiver.messages}) == 200
    assert len(receiver.messages) == 200


async def test_deliveries_are_paged(emptied):
    async with (
        receiving() as receiver,
        open_webhooks(emptied, receiver) as system,
    ):
        webhook, _ = await system.webhooks.create(TENANT, receiver.url)
        await system.end_batch("b-1", count=5)
        await system.deliveries.send_due()
        pages, token = [], ""
        while True:
            page = await system.webhooks.list_deliveries(
                TENANT,
                webhook.webhook_id,
                state=DeliveryState.DELIVERED,
                page_size=2,
                page_token=token,
            )
            pages.append([d.number for d in page.items])
            if not (token := page.next_page_token):
                break
        assert [len(page) for page in pages] == [2, 2, 1]
        numbers = [number for page in pages for number in page]
        assert numbers == sorted(numbers, reverse=True)


@pytest.mark.parametrize("point", ["webhook.sending", "webhook.sent"])
@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
async def test_killed_senders_lose_nothing(emptied, point, kills):
    events = 8 * kills  # the last kill comes while some are left
    async with receiving() as receiver, open_webhooks(emptied, receiver) as system:
        webhook, secret = await system.webhooks.create(TENANT, receiver.url)
        await system.end_batch("b-1", count=events)
        for passes in range(1, kills + 1):
            killed = await sender(emptied, receiver.port, f"{point}:{passes}")
            assert await asyncio.wait_for(killed.wait(), 20) == -signal.SIGKILL
        last = await sender(emptied, receiver.port, "")
        ended = await system.ended(webhook.webhook_id, events)
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
        sys.executable,
        "tests/support/sender.py",
        url,
        str(port),
        env=os.environ | {"FAILPOINT": failpoint},
    )
