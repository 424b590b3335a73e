"""Counts what is pending, for the metrics: autoscalers of workers look at it."""

import asyncio
import math

from image_categorizer_server.db.outbox import count_pending
from image_categorizer_server.domain.tenant import all_tenants
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.telemetry.metrics import PENDING


async def measure_pending(interval_s: float) -> None:
    """Counts what is pending of all tenants every `interval_s` seconds, for ever."""
    with all_tenants():
        while True:
            await _measure()
            await asyncio.sleep(interval_s)


async def _measure() -> None:
    """While the database does not answer, the metrics are NaN: an old number would mislead."""
    try:
        pending = await count_pending()
    except DependencyDown:
        counts: dict[str, float] = dict.fromkeys(("chunks", "messages", "deliveries"), math.nan)
    else:
        counts = {
            "chunks": pending.chunks,
            "messages": pending.messages,
            "deliveries": pending.deliveries,
        }
    for kind, count in counts.items():
        PENDING.labels(kind).set(count)
