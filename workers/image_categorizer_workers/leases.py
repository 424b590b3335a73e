"""Leases of chunks: extended while the work goes on."""

import asyncio
import time

from image_categorizer_server.clock import Backoff
from image_categorizer_server.db import chunk as chunks
from image_categorizer_server.domain.batch import Chunk
from image_categorizer_server.errors import DependencyDown

FIRST_RETRY_DELAY_S, MAX_RETRY_DELAY_S = 0.2, 5.0
EXTENSIONS_PER_LEASE = 3


class LeaseLost(Exception):
    """Another process has the chunk, or may have it."""


async def keep_lease(chunk: Chunk, lease_s: float) -> None:
    """Extends the lease of a chunk until cancelled.

    Raises:
        LeaseLost: another process has the chunk, or may have it because the database has not
            answered for the whole time of the lease.
    """
    leased_until_s = time.monotonic() + lease_s
    while True:
        await asyncio.sleep(lease_s / EXTENSIONS_PER_LEASE)
        asked_s = time.monotonic()
        try:
            if not await chunks.extend(chunk, lease_s):
                raise LeaseLost
            leased_until_s = asked_s + lease_s
        except DependencyDown:
            if time.monotonic() > leased_until_s:
                raise LeaseLost from None


def retry_backoff() -> Backoff:
    """Returns the delays of a worker that waits for the database, the server or a store."""
    return Backoff(FIRST_RETRY_DELAY_S, MAX_RETRY_DELAY_S)
