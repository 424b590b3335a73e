"""Outcomes are delivered at once on an idle machine, and together under load."""

import asyncio
import threading
import time

import pytest
from image_categorizer_server.domain.classification import Lane
from image_categorizer_server.errors import ModelFailing
from image_categorizer_server.inference.engine.entry import MAX_HELD, Delivery, Entry

from tests.conftest import SLACK_S
from tests.support.batching import Device, batcher_of, behind_a_held_device, image, values
from tests.support.polling import elapsed


def results_of(count=1, in_s=10.0):
    """Returns the results of a micro-batch, as failures, which need no model."""
    loop = asyncio.get_running_loop()
    request = image(1, in_s=in_s)
    entries = [
        Entry(number, request, loop.create_future(), Lane.INTERACTIVE, "", request.deadline_s)
        for number in range(count)
    ]
    return [(entry, ModelFailing("no")) for entry in entries]


async def delivered(results):
    """Returns the number of results that have arrived."""
    await elapsed(0.001)
    return sum(entry.outcome.done() and bool(entry.outcome.exception()) for entry, _ in results)


@pytest.fixture
async def delivery():
    return Delivery(asyncio.get_running_loop(), hold_s=0.1)


async def test_nothing_is_held_while_a_runner_would_idle(delivery):
    results = results_of()
    delivery.add(results, is_busy=False, next_s=0.001)
    assert await delivered(results) == 1


async def test_results_of_several_micro_batches_are_delivered_together_under_load(delivery):
    first, second = results_of(MAX_HELD - 1), results_of()
    delivery.add(first, is_busy=True, next_s=0.001)
    assert await delivered(first) == 0
    delivery.add(second, is_busy=True, next_s=0.001)
    assert await delivered(first + second) == MAX_HELD


@pytest.mark.parametrize(("next_s", "in_s"), [(0.2, 10.0), (0.05, 0.04)])
async def test_no_result_is_held_past_the_limit_or_its_deadline(delivery, next_s, in_s):
    results = results_of(in_s=in_s)
    delivery.add(results, is_busy=True, next_s=next_s)
    assert await delivered(results) == 1


async def test_held_results_are_delivered_once_the_runners_are_idle():
    batcher = batcher_of(Device(), decoders=0, max_queued=200, max_queued_bytes=10**6, hold_s=60.0)
    start_s = time.monotonic()
    outcomes = await asyncio.gather(*(batcher.submit(image(value)) for value in range(20, 120)))
    assert values(outcomes) == list(range(20, 120))
    assert time.monotonic() - start_s < SLACK_S
    await batcher.stop()


class HangingDevice(Device):
    """A device whose second call hangs until `repair`."""

    def __init__(self):
        super().__init__()
        self._repaired = threading.Event()

    def predict(self, inputs, with_features):
        answer = super().predict(inputs, with_features)
        if len(self.batches) == 2:
            assert self._repaired.wait(2 * SLACK_S)
        return answer

    def repair(self):
        self._repaired.set()


async def test_no_result_is_held_while_the_next_call_hangs():
    device = HangingDevice()
    batcher = batcher_of(device, max_size=1, hold_s=0.5)
    first, *others = await behind_a_held_device(batcher, device, map(image, [21, 22, 23]))
    device.free.set()
    async with asyncio.timeout(SLACK_S):
        assert values([await first]) == [0]
    assert len(device.batches) == 2
    assert not any(task.done() for task in others)
    device.repair()
    assert values(await asyncio.gather(*others)) == [21, 22, 23]
    await batcher.stop()
