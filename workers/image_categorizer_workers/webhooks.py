"""Sends webhooks in every worker."""

import asyncio

from image_categorizer_server.egress.fetcher import open_fetcher
from image_categorizer_server.services.delivery import Deliveries
from image_categorizer_server.settings import Settings
from image_categorizer_server.stores.buckets import ObjectReader


async def send_webhooks(settings: Settings, stop: asyncio.Event) -> None:
    """Sends until `stop` is set, then ends what is under way; needs an open database.

    By connections of its own: receivers that hang hold up no images.
    """
    own = settings.webhook
    # Who gets a turn has all the time of an attempt before its lease ends.
    limits = {"max_connections": own.max_in_flight, "max_wait_s": own.lease_s - own.timeout_s}
    fetch = settings.fetch.model_copy(update=limits)
    async with open_fetcher(fetch, ObjectReader(settings).read) as fetcher:
        await Deliveries(settings.webhook, fetcher).run(stop)
