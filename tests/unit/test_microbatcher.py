"""Closing reasons, bounds, failures, callers who leave."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from image_categorizer_server.domain import BatchCloseReason
from image_categorizer_server.errors import Overloaded
from image_categorizer_server.inference.microbatcher import MicroBatcher


class Device:
    """A model that answers with each input's first byte, and can be held."""

    def __init__(self):
        self.sizes = []
        self.started = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.fail_next = False
        self._free = None

    def hold(self):
        self._free = asyncio.Event()

    def release(self):
        self._free.set()

    def predict(self, inputs):
        self.sizes.append(len(inputs))
        self.loop.call_soon_threadsafe(self.started.set)
        if self._free is not None:
            asyncio.run_coroutine_threadsafe(self._free.wait(), self.loop).result(5)
        if self.fail_next:
            self.fail_next = False
            raise RuntimeError("out of memory")
        return np.array([[array.flat[0]] for array in inputs], np.float32)


def image(value):
    return np.full((2, 2, 3), value, np.uint8)


@pytest.fixture
async def device():
    return Device()


@pytest.fixture
async def batcher(device):
    with ThreadPoolExecutor(1) as executor:
        batcher = MicroBatcher(device.predict, executor, max_size=4, max_queued=8, lanes=1)
        serving = asyncio.create_task(batcher.serve())
        yield batcher
        serving.cancel()


async def submit_while_busy(batcher, device, values):
    """Holds the device with one input, queues `values` behind it, lets go; returns all outcomes."""
    device.hold()
    first = asyncio.create_task(batcher.submit(image(0)))
    await device.started.wait()
    rest = [asyncio.create_task(batcher.submit(image(value))) for value in values]
    await asyncio.sleep(0)
    device.release()
    return await asyncio.gather(first, *rest)


async def test_a_lone_input_leaves_at_once(batcher):
    outcome = await batcher.submit(image(7))
    assert outcome.confidences.tolist() == [7]
    assert (outcome.batch_size, outcome.close_reason) == (1, BatchCloseReason.IDLE)


async def test_what_waits_while_the_device_works_leaves_together(batcher, device):
    outcomes = await submit_while_busy(batcher, device, [1, 2, 3])
    assert device.sizes == [1, 3]
    assert [o.confidences[0] for o in outcomes] == [0, 1, 2, 3]
    assert outcomes[1].close_reason is BatchCloseReason.IDLE


async def test_a_micro_batch_is_full_at_its_largest_size(batcher, device):
    outcomes = await submit_while_busy(batcher, device, range(1, 8))
    assert device.sizes == [1, 4, 3]
    assert [o.confidences[0] for o in outcomes] == list(range(8))
    reasons = [BatchCloseReason.IDLE] + [BatchCloseReason.FULL] * 4 + [BatchCloseReason.IDLE] * 3
    assert [o.close_reason for o in outcomes] == reasons


async def test_a_failing_micro_batch_does_not_stop_the_next(batcher, device):
    device.fail_next = True
    with pytest.raises(RuntimeError, match="out of memory"):
        await batcher.submit(image(1))
    assert (await batcher.submit(image(2))).confidences[0] == 2


async def test_an_answer_that_is_too_short_fails_its_micro_batch_only(device):
    answers = [np.zeros((0, 1), np.float32), np.ones((1, 1), np.float32)]
    with ThreadPoolExecutor(1) as executor:
        batcher = MicroBatcher(
            lambda _: answers.pop(0), executor, max_size=4, max_queued=8, lanes=1
        )
        serving = asyncio.create_task(batcher.serve())
        with pytest.raises(ValueError, match="zip"):
            await batcher.submit(image(1))
        assert (await batcher.submit(image(1))).confidences[0] == 1
        serving.cancel()


async def test_a_caller_who_left_costs_the_device_nothing(batcher, device):
    device.hold()
    first = asyncio.create_task(batcher.submit(image(0)))
    await device.started.wait()
    leaving = asyncio.create_task(batcher.submit(image(1)))
    staying = asyncio.create_task(batcher.submit(image(2)))
    await asyncio.sleep(0)
    leaving.cancel()
    device.release()
    await asyncio.gather(first, staying)
    assert device.sizes == [1, 1]


async def test_a_caller_who_leaves_during_the_model_call_disturbs_nobody(batcher, device):
    device.hold()
    leaving = asyncio.create_task(batcher.submit(image(0)))
    await device.started.wait()
    leaving.cancel()
    staying = asyncio.create_task(batcher.submit(image(3)))
    device.release()
    assert (await staying).confidences[0] == 3


async def test_the_place_after_the_last_is_refused(batcher):
    places = [batcher.place() for _ in range(8)]
    for place in places:
        place.__enter__()
    with pytest.raises(Overloaded, match="8 images are waiting"), batcher.place():
        pass
    places[0].__exit__(None, None, None)
    with batcher.place():
        pass


async def test_drained_waits_for_the_last_place(batcher):
    await batcher.drained()
    with batcher.place():
        draining = asyncio.create_task(batcher.drained())
        await asyncio.sleep(0.01)
        assert not draining.done()
    await asyncio.wait_for(draining, 1)


async def test_lanes_share_what_waits(device):
    with ThreadPoolExecutor(2) as executor:
        batcher = MicroBatcher(device.predict, executor, max_size=4, max_queued=8, lanes=2)
        entries = [asyncio.create_task(batcher.submit(image(value))) for value in range(6)]
        await asyncio.sleep(0)
        serving = asyncio.create_task(batcher.serve())
        outcomes = await asyncio.gather(*entries)
        serving.cancel()
    assert [o.confidences[0] for o in outcomes] == list(range(6))
    assert sorted(device.sizes) == [3, 3]
