"""Closing reasons, bounds, failures, callers who leave."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from image_categorizer_server.domain import BatchCloseReason
from image_categorizer_server.errors import Overloaded, UndecodableImage
from image_categorizer_server.inference.microbatcher import MicroBatcher
from image_categorizer_server.inference.preprocess import Input
from image_categorizer_server.inference.runtimes import Answer


class Device:
    """A model that answers with each input's first byte, and can be held."""

    def __init__(self):
        self.sizes = []
        self.started = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.fail_next = False
        self.free = threading.Event()
        self.free.set()

    def predict(self, inputs):
        self.sizes.append(len(inputs))
        self.loop.call_soon_threadsafe(self.started.set)
        assert self.free.wait(5)
        if self.fail_next:
            self.fail_next = False
            raise RuntimeError("out of memory")
        return Answer(np.array([[array.flat[0]] for array in inputs], np.float32))


def image(value):
    """Returns what prepares an input of one value."""
    return lambda: Input(np.full((2, 2, 3), value, np.uint8), decode_ms=0.5)


@pytest.fixture
async def device():
    return Device()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
async def batcher(device, pool):
    batcher = MicroBatcher(device.predict, pool, max_size=4, max_queued=8, runners=1)
    yield batcher
    device.free.set()
    await batcher.stop()


async def behind_a_held_device(batcher, device, pool, values):
    """Holds the device with one input and queues `values` behind it; returns all tasks."""
    device.free.clear()
    first = asyncio.create_task(batcher.submit(image(0)))
    await device.started.wait()
    rest = [asyncio.create_task(batcher.submit(image(value))) for value in values]
    await asyncio.sleep(0)
    await asyncio.wrap_future(pool.submit(lambda: None))  # all are prepared
    return [first, *rest]


async def test_a_lone_input_leaves_at_once(batcher):
    outcome = await batcher.submit(image(7))
    assert outcome.confidences.tolist() == [7]
    assert (outcome.batch_size, outcome.close_reason) == (1, BatchCloseReason.IDLE)
    assert outcome.decode_ms == 0.5


async def test_what_waits_while_the_device_works_leaves_together(batcher, device, pool):
    tasks = await behind_a_held_device(batcher, device, pool, [1, 2, 3])
    device.free.set()
    outcomes = await asyncio.gather(*tasks)
    assert device.sizes == [1, 3]
    assert [o.confidences[0] for o in outcomes] == [0, 1, 2, 3]
    assert outcomes[1].close_reason is BatchCloseReason.IDLE


async def test_a_micro_batch_is_full_at_its_largest_size(batcher, device, pool):
    tasks = await behind_a_held_device(batcher, device, pool, range(1, 8))
    device.free.set()
    outcomes = await asyncio.gather(*tasks)
    assert device.sizes == [1, 4, 3]
    assert [o.confidences[0] for o in outcomes] == list(range(8))
    reasons = [BatchCloseReason.IDLE] + [BatchCloseReason.FULL] * 4 + [BatchCloseReason.IDLE] * 3
    assert [o.close_reason for o in outcomes] == reasons


async def test_a_failing_micro_batch_does_not_stop_the_next(batcher, device):
    device.fail_next = True
    with pytest.raises(RuntimeError, match="out of memory"):
        await batcher.submit(image(1))
    assert (await batcher.submit(image(2))).confidences[0] == 2


async def test_an_input_that_cannot_be_prepared_fails_alone(batcher, device, pool):
    def prepare():
        raise UndecodableImage("no image")

    tasks = await behind_a_held_device(batcher, device, pool, [1, 2])
    bad = asyncio.create_task(batcher.submit(prepare))
    with pytest.raises(UndecodableImage):
        await bad
    device.free.set()
    assert [o.confidences[0] for o in await asyncio.gather(*tasks)] == [0, 1, 2]


async def test_an_answer_that_is_too_short_fails_its_micro_batch_only(pool):
    answers = [Answer(np.zeros((0, 1), np.float32)), Answer(np.ones((1, 1), np.float32))]
    batcher = MicroBatcher(lambda _: answers.pop(0), pool, max_size=4, max_queued=8, runners=1)
    with pytest.raises(ValueError, match="zip"):
        await batcher.submit(image(1))
    assert (await batcher.submit(image(1))).confidences[0] == 1
    await batcher.stop()


async def test_a_caller_who_left_costs_the_device_nothing(batcher, device, pool):
    first, leaving, staying = await behind_a_held_device(batcher, device, pool, [1, 2])
    leaving.cancel()
    await asyncio.sleep(0)
    device.free.set()
    await asyncio.gather(first, staying)
    assert device.sizes == [1, 1]


async def test_a_caller_who_left_before_decoding_costs_no_decoding(batcher, pool):
    busy, prepared = threading.Event(), []
    pool.submit(busy.wait, 5)
    leaving = asyncio.create_task(batcher.submit(lambda: prepared.append(1)))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.sleep(0)
    busy.set()
    assert (await batcher.submit(image(1))).confidences[0] == 1
    assert prepared == []


async def test_a_caller_who_leaves_during_the_model_call_disturbs_nobody(batcher, device, pool):
    leaving, staying = await behind_a_held_device(batcher, device, pool, [3])
    leaving.cancel()
    device.free.set()
    assert (await staying).confidences[0] == 3


async def test_the_caller_after_the_last_is_refused(batcher, device, pool):
    tasks = await behind_a_held_device(batcher, device, pool, range(1, 8))
    with pytest.raises(Overloaded, match="8 images are waiting"):
        await batcher.submit(image(9))
    device.free.set()
    await asyncio.gather(*tasks)
    assert (await batcher.submit(image(9))).confidences[0] == 9


async def test_stopping_waits_for_the_last_caller(device, pool):
    batcher = MicroBatcher(device.predict, pool, max_size=4, max_queued=8, runners=2)
    tasks = await behind_a_held_device(batcher, device, pool, [1])
    stopping = asyncio.create_task(batcher.stop())
    await asyncio.sleep(0.01)
    assert not stopping.done()
    device.free.set()
    await asyncio.wait_for(stopping, 5)
    assert all(task.done() for task in tasks)


async def test_runners_share_what_waits(device, pool):
    batcher = MicroBatcher(device.predict, pool, max_size=4, max_queued=20, runners=2)
    device.free.clear()
    busy = [asyncio.create_task(batcher.submit(image(9))) for _ in range(2)]
    while sum(device.sizes) < 2:
        await asyncio.sleep(0.001)
    device.sizes.clear()
    waiting = [asyncio.create_task(batcher.submit(image(value))) for value in range(6)]
    await asyncio.sleep(0)
    await asyncio.wrap_future(pool.submit(lambda: None))
    device.free.set()
    outcomes = await asyncio.gather(*waiting)
    await asyncio.gather(*busy)
    assert [o.confidences[0] for o in outcomes] == list(range(6))
    assert max(device.sizes) <= 4
    await batcher.stop()
