"""Sends webhooks from a worker."""

import asyncio

from image_categorizer_server.egress.fetcher import open_fetcher
from image_categorizer_server.services.delivery import Deliveries
from image_categorizer_server.settings import Settings
from image_categorizer_server.stores.buckets import ObjectReader


async def send_webhooks(settings: Settings, stop: asyncio.Event) -> None:
    """Sends webhooks until `stop` is set, then finishes the attempts under way.

    The database must be open.
    """
    webhook = settings.webhook
    # Connections of its own: receivers that hang must not delay images.  A delivery waits for its
    # turn at the host no longer than its lease allows: a whole attempt must fit in afterwards.
    fetch = settings.fetch.model_copy(
        update={
            "max_connections": webhook.max_in_flight,
            "max_wait_s": webhook.lease_s - webhook.timeout_s,
        }
    )
    async with open_fetcher(fetch, ObjectReader(settings).read) as fetcher:
        await Deliveries(webhook, fetcher).run(stop)
