"""The time of the model is shared out among the images, to the last millisecond."""

import asyncio
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial

import pytest
from image_categorizer_server.errors import CategorizerError
from image_categorizer_server.inference.engine.guard import Guard

from tests.support.batching import NOT_A_NUMBER, POISON, Device, batcher_of, image
from tests.support.polling import elapsed, eventually, pause
from tests.unit.inference.test_guard import inputs
from tests.unit.inference.test_merging import Machine


class TimedDevice(Device):
    """Takes its time for each call, also for one that fails, and counts it."""

    def __init__(self, call_s=0.02, image_s=0.002):
        super().__init__()
        self.busy_s = 0.0
        self._call_s = call_s
        self._image_s = image_s
        self._lock = threading.Lock()

    def predict(self, inputs, with_features):
        start_s = time.monotonic()
        pause(self._call_s + self._image_s * len(inputs))
        try:
            return super().predict(inputs, with_features)
        finally:
            with self._lock:
                self.busy_s += time.monotonic() - start_s


@pytest.mark.parametrize("runners", [1, 2])
async def test_the_shares_of_all_images_add_up_to_the_time_of_the_model(runners):
    """Also those of images that fail, that make the others run again, and that nobody waits for."""
    device, shares = TimedDevice(), defaultdict(float)
    batcher = batcher_of(
        device, runners=runners, max_size=4, max_queued=200, max_queued_bytes=10**6
    )

    def charge(tenant, model_ms):
        shares[tenant] += model_ms

    async def ask(value, tenant):
        with suppress(CategorizerError):
            await batcher.submit(image(value, charge=partial(charge, tenant), in_s=60))

    kinds = [(value, f"tenant {value % 3}") for value in range(20, 60)]
    kinds += [(POISON, "failing"), (NOT_A_NUMBER, "failing")]
    asked = [asyncio.create_task(ask(*kind)) for kind in kinds]
    left = asyncio.create_task(ask(5, "left"))
    await eventually(lambda: any(5 in batch for batch in device.batches), interval_s=0.001)
    left.cancel()
    await asyncio.gather(*asked)
    await batcher.stop()
    assert sum(shares.values()) == pytest.approx(device.busy_s * 1000, rel=0.01)
    assert shares["left"] > 0
    # Its failure made others run again.
    assert shares["failing"] > 0


async def test_images_of_one_micro_batch_have_equal_shares():
    device, shares = TimedDevice(), []
    batcher = batcher_of(device, max_size=4, max_queued=20)
    device.free.clear()
    first = asyncio.create_task(batcher.submit(image(1)))
    await eventually(lambda: device.batches, interval_s=0.001)
    rest = [asyncio.create_task(batcher.submit(image(n, charge=shares.append))) for n in range(4)]
    await elapsed(0.05)
    device.free.set()
    await asyncio.gather(first, *rest)
    await batcher.stop()
    assert len(shares) == 4
    assert len(set(shares)) == 1
    assert 4 * shares[0] == pytest.approx(28, rel=0.5)


def test_a_run_counts_all_its_calls():
    device = TimedDevice()
    guard = Guard(device.predict, 8)
    guard.run(inputs([1, 2, POISON, 4]), False)
    assert len(device.batches) > 3
    assert guard.model_s == pytest.approx(device.busy_s, rel=0.01)
    guard.run(inputs([1]), False)
    assert guard.model_s < device.busy_s / 2


def test_server_processes_share_the_time_of_a_call_that_is_theirs_together():
    device = TimedDevice()
    with ExitStack() as stack:
        machine = Machine(device, stack)
        fronts = [machine.runtime() for _ in range(3)]
        guards = [Guard(lambda i, _, front=front: front.predict(i), 8) for front in fronts]

        def model_s(guard, values):
            guard.run(inputs(values), False)
            return guard.model_s

        with ThreadPoolExecutor(3) as pool:
            work = [(guard, [n] * n) for n, guard in enumerate(guards, 1) for _ in range(4)]
            total_s = sum(pool.map(lambda pair: model_s(*pair), work))
    assert total_s == pytest.approx(device.busy_s, rel=0.01)
    assert any(len(batch) > 3 for batch in device.batches)
