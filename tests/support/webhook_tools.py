"""Webhooks of a tenant and their sender, in this process, for receivers on this machine."""

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass

from image_categorizer_server.domain.webhook import DeliveryState
from image_categorizer_server.egress.fetcher import open_fetcher
from image_categorizer_server.services.delivery import ROWS_PER_STATEMENT, Deliveries
from image_categorizer_server.services.webhook import Webhooks
from image_categorizer_server.settings.fetch import FetchSettings
from image_categorizer_server.settings.webhook import WebhookSettings

from tests.support.database import connect_as_owner
from tests.support.polling import eventually

TENANT = "default"
FAST = {"retry_factor": 0.01, "poll_interval_s": 0.05, "timeout_s": 1, "lease_s": 2}


@dataclass
class WebhookSystem:
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
        connection = await connect_as_owner(self.url)
        await connection.executemany(
            "INSERT INTO outbox (tenant_id, kind, batch_id, payload, create_time, take_after)"
            " VALUES ($1, 'webhook', $2, $3, now(), now())",
            [(tenant, batch_id, json.dumps(payload))] * count,
        )
        await connection.close()

    async def log(self, webhook_id, **wanted):
        return (await self.webhooks.list_deliveries(TENANT, webhook_id, **wanted)).items

    async def ended(self, webhook_id, count=1):
        """Returns the deliveries once `count` have ended."""
        done = []

        async def is_enough():
            found = await self.log(webhook_id)
            done[:] = [d for d in found if d.state is not DeliveryState.PENDING]
            return len(done) >= count

        await eventually(is_enough)
        return done


@asynccontextmanager
async def open_webhooks(url, *receivers, rows_per_statement=ROWS_PER_STATEMENT, **settings):
    chosen = WebhookSettings(**FAST | settings)
    fetch = FetchSettings(
        allow_http=True,
        allowed_ports=tuple(receiver.port for receiver in receivers),
        allowed_networks=("127.0.0.0/8",),
        max_connections=chosen.max_in_flight,
    )
    async with open_fetcher(fetch, unused) as fetcher:
        deliveries = Deliveries(chosen, fetcher, rows_per_statement)
        yield WebhookSystem(Webhooks(chosen, fetcher), deliveries, url)


async def unused(uri, max_bytes):
    raise AssertionError
