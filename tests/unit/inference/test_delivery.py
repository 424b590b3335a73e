"""Outcomes reach the event loop at once where somebody gains by it, together where nobody does."""

import asyncio
import time

import pytest
from image_categorizer_server.domain.classification import Lane
from image_categorizer_server.errors import ModelFailing
from image_categorizer_server.inference.engine.delivery import MOST_HELD, Delivery
from image_categorizer_server.inference.engine.entry import Entry

from tests.conftest import SLACK_S
from tests.support.batching import Device, batcher_of, image, values


def settled(count=1, in_s=10.0):
    """Returns outcomes of a micro-batch, as failures, which need no model."""
    loop = asyncio.get_running_loop()
    request = image(1, in_s=in_s)
    entries = [
        Entry(number, request, loop.create_future(), Lane.INTERACTIVE, "", request.deadline_s)
        for number in range(count)
    ]
    return [(entry, ModelFailing("no")) for entry in entries]


async def delivered(batch):
    """Returns how many of the outcomes have arrived."""
    await asyncio.sleep(0.001)
    return sum(entry.outcome.done() and bool(entry.outcome.exception()) for entry, _ in batch)


@pytest.fixture
async def delivery():
    return Delivery(asyncio.get_running_loop(), hold_s=0.1)


async def test_while_runners_would_idle_nothing_is_held(delivery):
    batch = settled()
    delivery.add(batch, is_busy=False, next_s=0.001)
    assert await delivered(batch) == 1


async def test_under_load_micro_batches_are_delivered_together(delivery):
    first, second = settled(MOST_HELD - 1), settled()
    delivery.add(first, is_busy=True, next_s=0.001)
    assert await delivered(first) == 0
    delivery.add(second, is_busy=True, next_s=0.001)
    assert await delivered(first + second) == MOST_HELD


@pytest.mark.parametrize(("next_s", "in_s"), [(0.2, 10.0), (0.05, 0.04)])
async def test_nothing_is_held_past_its_time_or_its_deadline(delivery, next_s, in_s):
    batch = settled(in_s=in_s)
    delivery.add(batch, is_busy=True, next_s=next_s)
    assert await delivered(batch) == 1


async def test_what_is_held_leaves_when_the_runners_are_idle():
    batcher = batcher_of(Device(), decoders=0, max_queued=200, max_queued_bytes=10**6, hold_s=60.0)
    start_s = time.monotonic()
    outcomes = await asyncio.gather(*(batcher.submit(image(value)) for value in range(20, 120)))
    assert values(outcomes) == list(range(20, 120))
    assert time.monotonic() - start_s < SLACK_S
    await batcher.stop()
