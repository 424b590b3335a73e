"""Close reasons, order, and callers that are cancelled."""

import asyncio
import itertools
import os
import sys
import threading
import time

import pytest
from image_categorizer_server.domain.classification import BatchCloseReason, Lane
from image_categorizer_server.errors import (
    UndecodableImage,
)
from image_categorizer_server.inference.engine.entry import Request
from image_categorizer_server.inference.engine.microbatcher import BatcherStopped

from tests.conftest import SLACK_S
from tests.support.batching import behind_a_held_device, image, values
from tests.support.polling import elapsed, eventually, stays

FULL, IDLE = BatchCloseReason.FULL, BatchCloseReason.IDLE


@pytest.mark.parametrize("decoders", [0, 1])
async def test_a_single_image_runs_at_once(make, decoders):
    outcome = await make(decoders=decoders).submit(image(7))
    assert values([outcome]) == [7]
    assert (outcome.batch_size, outcome.close_reason) == (1, IDLE)
    assert outcome.input.decode_ms == 0.5


async def test_images_that_wait_for_the_device_run_together(make, device):
    tasks = await behind_a_held_device(make(), device, map(image, [1, 2, 3]))
    device.free.set()
    outcomes = await asyncio.gather(*tasks)
    assert device.sizes == [1, 3]
    assert values(outcomes) == [0, 1, 2, 3]
    assert outcomes[1].close_reason is IDLE


async def test_a_micro_batch_is_full_at_its_largest_size(make, device):
    tasks = await behind_a_held_device(make(), device, map(image, range(1, 8)))
    device.free.set()
    outcomes = await asyncio.gather(*tasks)
    assert device.sizes == [1, 4, 3]
    assert values(outcomes) == list(range(8))
    assert [o.close_reason for o in outcomes] == [IDLE] + [FULL] * 4 + [IDLE] * 3


async def test_runners_that_decode_fill_micro_batches(make, device):
    batcher = make(decoders=0, max_queued=40)
    outcomes = await asyncio.gather(*(batcher.submit(image(value)) for value in range(20, 60)))
    assert values(outcomes) == list(range(20, 60))
    assert device.sizes.count(4) >= 9


async def test_two_runners_answer_each_image_once(make, device):
    batcher = make(decoders=0, runners=2, max_queued=200, max_queued_bytes=10**6)
    outcomes = await asyncio.gather(*(batcher.submit(image(value)) for value in range(20, 220)))
    assert values(outcomes) == list(range(20, 220))
    assert sorted(itertools.chain.from_iterable(device.batches)) == list(range(20, 220))


async def test_a_delay_gathers_more_images(make, device):
    batcher = make(max_delay_s=0.2)
    start_s = time.monotonic()
    first = asyncio.create_task(batcher.submit(image(1)))
    await elapsed(0.05)
    outcomes = await asyncio.gather(first, batcher.submit(image(2)))
    assert 0.15 < time.monotonic() - start_s < SLACK_S
    assert device.sizes == [2]
    assert outcomes[0].close_reason is BatchCloseReason.DELAY


async def test_the_earliest_deadline_goes_first(make, device):
    requests = [image(value, in_s=10 - value) for value in range(1, 6)]
    tasks = await behind_a_held_device(make(max_size=1), device, requests)
    device.free.set()
    await asyncio.gather(*tasks)
    assert device.batches == [[0], [5], [4], [3], [2], [1]]


async def test_interactive_goes_first_and_batch_is_not_starved(make, device):
    batch = [image(value, lane=Lane.BATCH) for value in (101, 102)]
    interactive = [image(value) for value in range(1, 7)]
    batcher = make(max_size=1, max_queued=20)
    tasks = await behind_a_held_device(batcher, device, batch + interactive)
    device.free.set()
    await asyncio.gather(*tasks)
    order = [value for (value,) in device.batches[1:]]
    assert [value for value in order if value < 100] == [1, 2, 3, 4, 5, 6]
    assert [order.index(101), order.index(102)] == [3, 7]  # a quarter of the turns


async def test_lane_batch_by_itself_runs_in_the_smallest_efficient_size(make, device):
    table = {1: 0.010, 2: 0.011, 4: 0.020}
    bulk = [image(value, lane=Lane.BATCH) for value in range(101, 107)]
    batcher = make(table=table, max_queued=20)
    tasks = await behind_a_held_device(batcher, device, bulk)
    device.free.set()
    outcomes = await asyncio.gather(*tasks)
    assert device.sizes == [1, 2, 2, 2]
    assert {o.close_reason for o in outcomes[1:]} == {FULL}


async def test_lane_batch_does_not_fill_up_a_micro_batch_of_interactive(make, device):
    table = {1: 0.010, 2: 0.011, 4: 0.020}
    bulk = [image(value, lane=Lane.BATCH) for value in range(101, 105)]
    batcher = make(table=table, max_queued=20)
    tasks = await behind_a_held_device(batcher, device, [*bulk, image(1)])
    device.free.set()
    await asyncio.gather(*tasks)
    assert device.batches[1][0] == 1
    assert device.sizes == [1, 2, 2, 1]


async def test_a_runner_decodes_no_more_of_lane_batch_than_the_efficient_size(make, device):
    decoded = []

    def bulk(value):
        return image(value, lane=Lane.BATCH, on_prepare=lambda: decoded.append(value))

    batcher = make(decoders=0, table={1: 0.010, 2: 0.011, 4: 0.020}, max_queued=40)
    device.free.clear()
    tasks = [asyncio.create_task(batcher.submit(bulk(value))) for value in range(20, 28)]
    await eventually(lambda: device.batches, interval_s=0.001)
    assert len(decoded) == len(device.batches[0]) <= 2
    device.free.set()
    assert values(await asyncio.gather(*tasks)) == list(range(20, 28))
    assert max(device.sizes) <= 2


async def test_tenants_alternate(make, device):
    many = [image(value, tenant_id="a", in_s=5) for value in range(1, 5)]
    few = [image(value, tenant_id="b") for value in (11, 12)]
    tasks = await behind_a_held_device(make(max_size=1), device, many + few)
    device.free.set()
    await asyncio.gather(*tasks)
    assert [value for (value,) in device.batches[1:]] == [1, 11, 2, 12, 3, 4]


async def test_an_image_that_cannot_be_decoded_fails_no_other(make, device):
    def prepare():
        raise UndecodableImage("no image")

    batcher = make()
    tasks = await behind_a_held_device(batcher, device, map(image, [1, 2]))
    with pytest.raises(UndecodableImage):
        await batcher.submit(Request(prepare, 1, time.monotonic() + 10))
    device.free.set()
    assert values(await asyncio.gather(*tasks)) == [0, 1, 2]


async def test_a_cancelled_caller_costs_no_model_call(make, device):
    first, cancelled, staying = await behind_a_held_device(make(), device, map(image, [1, 2]))
    cancelled.cancel()
    await elapsed(0)
    device.free.set()
    await asyncio.gather(first, staying)
    assert device.batches == [[0], [2]]


async def test_a_caller_cancelled_during_the_model_call_affects_no_other(make, device):
    cancelled, staying = await behind_a_held_device(make(), device, map(image, [3]))
    cancelled.cancel()
    device.free.set()
    assert values([await staying]) == [3]


async def test_features_are_returned_only_on_request(make):
    batcher = make()
    assert (await batcher.submit(image(1))).features is None
    assert (await batcher.submit(image(1, with_features=True))).features.shape == (1, 1, 1)


async def test_stopping_waits_for_the_last_caller(make, device):
    batcher = make()
    tasks = await behind_a_held_device(batcher, device, [image(1)])
    stopping = asyncio.create_task(batcher.stop())
    await stays(lambda: not stopping.done(), 0.01)
    with pytest.raises(BatcherStopped):
        await batcher.submit(image(2))
    device.free.set()
    await asyncio.wait_for(stopping, 5)
    assert all(task.done() for task in tasks)


async def test_the_duration_of_a_hanging_call_is_known(make, device):
    batcher = make()
    (task,) = await behind_a_held_device(batcher, device, [])
    await elapsed(0.05)
    assert batcher.longest_busy_s() >= 0.05
    device.free.set()
    await task
    await elapsed(0.05)
    assert batcher.longest_busy_s() < 0.05


# Elsewhere a priority applies to the whole process, and `give_way` does nothing.
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
async def test_threads_have_a_lower_priority_than_the_event_loop(make):
    priorities = []

    def prepare():
        priorities.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return image(1).prepare()

    await make(niceness=7).submit(Request(prepare, 1, time.monotonic() + 10))
    assert priorities == [max(7, os.getpriority(os.PRIO_PROCESS, 0))]
