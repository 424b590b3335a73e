"""Leases of chunks: kept while the work goes on, and lost."""

import asyncio
import random
import time

from image_categorizer_server.db import chunk as chunks
from image_categorizer_server.domain.batch import Chunk
from image_categorizer_server.errors import DependencyDown

FIRST_BACKOFF_S = 0.2
MOST_BACKOFF_S = 5.0
JITTER = 0.5, 1.5
BEATS = 3  # in the time of one lease


class LeaseLost(Exception):
    """Expected: others have the chunk now, or may have it."""


async def keep(chunk: Chunk, lease_s: float) -> None:
    """Extends the lease, time and again, until cancelled.

    Raises:
        LeaseLost: others have the chunk, or may have it since the database is silent.
    """
    sure_s = time.monotonic() + lease_s
    while True:
        await asyncio.sleep(lease_s / BEATS)
        asked_s = time.monotonic()
        try:
            if not await chunks.extend(chunk, lease_s):
                raise LeaseLost
            sure_s = asked_s + lease_s
        except DependencyDown:
            if time.monotonic() > sure_s:
                raise LeaseLost from None


def backoff_s(attempt: int) -> float:
    """Returns the wait after an attempt, counted from 1: it doubles, and differs for everyone."""
    wait_s: float = min(MOST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(attempt - 1, 10))
    return wait_s * random.uniform(*JITTER)  # noqa: S311 - no secret
