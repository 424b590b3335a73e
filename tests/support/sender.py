"""Sends webhooks in a process of its own, so that a test can kill it: DATABASE_URL, port, lease."""

import asyncio
import os
import sys

from image_categorizer_server import failpoints
from image_categorizer_server.db.database import open_database
from image_categorizer_server.domain.tenant import all_tenants
from image_categorizer_server.egress.fetcher import open_fetcher
from image_categorizer_server.services.delivery import Deliveries
from image_categorizer_server.settings.database import DatabaseSettings
from image_categorizer_server.settings.fetch import FetchSettings
from image_categorizer_server.settings.webhook import WebhookSettings


async def send(url: str, port: int) -> None:
    """Sends until it is killed."""
    failpoints.arm(os.environ.get("FAILPOINT", ""))
    fetch = FetchSettings(allow_http=True, allowed_ports=(port,), allowed_networks=("127.0.0.0/8",))
    settings = WebhookSettings(poll_interval_s=0.05, timeout_s=0.5, lease_s=1)
    with all_tenants():
        async with open_database(url, DatabaseSettings()), open_fetcher(fetch, unused) as fetcher:
            await Deliveries(settings, fetcher).run(asyncio.Event())


async def unused(uri: str, max_bytes: int) -> bytes:
    """Fails: nothing is fetched."""
    raise AssertionError(uri)


asyncio.run(send(sys.argv[1], int(sys.argv[2])))
