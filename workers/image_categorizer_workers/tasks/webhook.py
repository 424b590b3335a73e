"""Sends webhooks in every worker."""

import asyncio

from image_categorizer_server.deliveries import Deliveries


async def send_webhooks(deliveries: Deliveries, stop: asyncio.Event) -> None:
    """Sends until `stop` is set, then ends what is under way; needs an open database."""
    await deliveries.run(stop)
