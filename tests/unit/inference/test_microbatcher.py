"""Close reasons, order, and callers that are cancelled."""

import asyncio
import gc
import itertools
import os
import sys
import threading
import time
import weakref

import pytest
from image_categorizer_server.domain.classification import BatchCloseReason, Lane
from image_categorizer_server.errors import (
    DeadlineExceeded,
    DeadlineUnreachable,
    ModelFailing,
    Overloaded,
    UnclassifiableImage,
    UndecodableImage,
)
from image_categorizer_server.inference.engine.entry import Request
from image_categorizer_server.inference.engine.microbatcher import BatcherStopped
from image_categorizer_server.inference.images.localize import Located

from tests.conftest import SLACK_S
from tests.support.batching import POISON, Device, behind_a_held_device, image, values
from tests.support.polling import elapsed, eventually, stays

FULL, IDLE = BatchCloseReason.FULL, BatchCloseReason.IDLE


@pytest.mark.parametrize("decoders", [0, 1])
async def test_a_single_image_runs_at_once(make, decoders):
    outcome = await make(decoders=decoders).submit(image(7))
    assert values([outcome]) == [7]
    assert (outcome.batch_size, outcome.close_reason) == (1, IDLE)
    assert outcome.input.decode_ms == 0.5


async def test_only_an_image_that_no_other_waits_behind_gets_the_faster_call(make, device):
    single = Device()
    batcher = make(single=single)
    assert values([await batcher.submit(image(7))]) == [7]
    assert (single.batches, device.batches) == ([[7]], [])
    single.free.clear()
    first = asyncio.create_task(batcher.submit(image(1)))
    await eventually(lambda: len(single.batches) == 2, interval_s=0.001)
    second, third = (asyncio.create_task(batcher.submit(image(value))) for value in (2, 3))
    await elapsed(0.01)
    single.free.set()
    assert values(await asyncio.gather(first, second, third)) == [1, 2, 3]
    assert [1] in single.batches
    assert all(len(batch) == 1 for batch in single.batches)
    assert device.batches


async def test_a_full_queue_keeps_a_tenth_of_the_time_in_hand(make, device):
    # The first guess of the rate: a call of 0.1 s, and 3 ms of decoding.
    batcher = make(max_queued=1000, max_size=1, table={1: 0.1})
    requests = [image(1, in_s=5) for _ in range(60)]
    tasks = await behind_a_held_device(batcher, device, requests)
    waiting = [task for task in tasks if not task.done()]
    device.free.set()
    await asyncio.gather(*waiting)
    refused = [task.exception() for task in tasks if task not in waiting]
    assert {type(error) for error in refused} == {DeadlineUnreachable}
    # One every 0.103 s: without the margin, 48 would pass.
    assert 42 <= len(waiting) <= 45


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


def located(value, *, on_locate=lambda: None, **fields):
    """Returns a request for one image whose boxes are made in the thread."""

    def locate(outcome):
        on_locate()
        return Located([], bytes([int(outcome.confidences[0])]))

    return image(value, with_features=True, locate=locate, **fields)


@pytest.mark.parametrize("decoders", [0, 1])
async def test_boxes_are_made_by_the_threads_that_make_inputs(make, decoders):
    names = []
    request = located(7, on_locate=lambda: names.append(threading.current_thread().name))
    outcome = await make(decoders=decoders).submit(request)
    assert outcome.located.heat_map == b"\x07"
    assert outcome.features is None
    assert names == ["decoder-0" if decoders else "runner-0"]


@pytest.mark.parametrize("decoders", [0, 1])
async def test_an_image_without_boxes_is_answered_beside_one_with_boxes(make, device, decoders):
    batcher = make(decoders=decoders)
    mixed = [located(value) if value % 2 else image(value) for value in range(1, 8)]
    outcomes = await asyncio.gather(*map(batcher.submit, mixed))
    assert values(outcomes) == list(range(1, 8))
    assert [o.located.heat_map[0] for o in outcomes if o.located] == [1, 3, 5, 7]


async def test_the_model_sees_whole_pictures_alone_and_others_do_not_wait(make, device):
    batcher, seen = make(), []

    def locate(outcome):
        seen.append((outcome.confidences[0], outcome.whole_features.shape))
        return Located([], b"")

    request = image(7, whole=8, with_features=True, locate=locate)
    tasks = await behind_a_held_device(batcher, device, [request, image(1), image(2)])
    device.free.set()
    outcome = (await asyncio.gather(*tasks))[1]
    assert device.batches == [[0], [7, 1, 2], [8]]
    assert seen == [(7, (1, 1, 1))]
    assert (outcome.confidences[0], outcome.whole_features) == (7, None)
    assert outcome.batch_size == 3


@pytest.mark.parametrize("decoders", [0, 1])
async def test_runners_show_whole_pictures_to_the_model(make, device, decoders):
    batcher = make(decoders=decoders)
    outcomes = await asyncio.gather(*(batcher.submit(located(v, whole=9)) for v in range(1, 8)))
    assert [o.located.heat_map[0] for o in outcomes] == list(range(1, 8))
    assert device.batches.count([9]) == 7


async def test_a_whole_picture_that_fails_fails_no_other(make):
    batcher = make()
    bad, good, plain = await asyncio.gather(
        batcher.submit(located(1, whole=POISON)),
        batcher.submit(located(2, whole=3)),
        batcher.submit(image(4)),
        return_exceptions=True,
    )
    assert isinstance(bad, UnclassifiableImage)
    assert good.located.heat_map == b"\x02"
    assert plain.confidences[0] == 4


async def test_no_whole_picture_is_seen_after_the_deadline(make, device):
    batcher = make()
    first, late = await behind_a_held_device(batcher, device, [located(2, whole=3, in_s=0.2)])
    await elapsed(0.3)
    device.free.set()
    await first
    with pytest.raises(DeadlineExceeded):
        await late
    assert [3] not in device.batches


async def test_whole_pictures_fail_with_a_model_that_fails_on_everything(make, device):
    batcher = make()
    tasks = await behind_a_held_device(
        batcher, device, [located(value, whole=9) for value in range(1, 5)]
    )
    device.fail_with(RuntimeError("CUDA error: device-side assert"))
    device.free.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert batcher.is_broken
    assert all(isinstance(outcome, ModelFailing) for outcome in outcomes)


async def test_boxes_that_cannot_be_made_fail_no_other(make):
    def fail():
        raise UndecodableImage("no boxes")

    batcher = make()
    bad, good = await asyncio.gather(
        batcher.submit(located(1, on_locate=fail)),
        batcher.submit(located(2)),
        return_exceptions=True,
    )
    assert isinstance(bad, UndecodableImage)
    assert good.located.heat_map == b"\x02"


async def test_no_boxes_are_made_after_the_deadline(make):
    made = []
    free = threading.Event()
    batcher = make(decoders=0)
    first = asyncio.create_task(batcher.submit(located(1, on_locate=lambda: free.wait(5))))
    await eventually(lambda: batcher.longest_busy_s() > 0)
    late = located(2, in_s=0.2, on_locate=lambda: made.append(2))
    late_task = asyncio.create_task(batcher.submit(late))
    await elapsed(0.3)
    free.set()
    await first
    with pytest.raises(DeadlineExceeded):
        await late_task
    assert made == []


async def test_the_time_of_boxes_is_counted_at_admission(make):
    batcher = make()
    await batcher.submit(located(1, on_locate=lambda: threading.Event().wait(0.5)))
    await batcher.submit(image(2, in_s=0.4))
    with pytest.raises(DeadlineUnreachable):
        await batcher.submit(located(3, in_s=0.4))


async def test_what_cancelled_callers_leave_is_dropped_at_once(make, device):
    batcher = make(max_queued=100, max_queued_bytes=2000)
    kept = [Payload() for _ in range(200)]
    alive = weakref.WeakSet(kept)
    tasks = await behind_a_held_device(batcher, device, [])
    while kept:  # ten at a time are all that the bound of bytes permits
        batch = [payload_of(kept.pop()) for _ in range(10)]
        leaving = [asyncio.create_task(batcher.submit(request)) for request in batch]
        await elapsed(0.001)
        for task in leaving:
            task.cancel()
        await asyncio.wait(leaving)
        del batch, leaving, task
    await eventually(lambda: batcher.depth == 1)
    gc.collect()
    assert len(alive) == 0
    device.free.set()
    assert values(await asyncio.gather(*tasks)) == [0]
    assert batcher.depth == 0


class Payload:
    """Stands for the content of an image."""


def payload_of(payload):
    def prepare(payload=payload):
        return image(1).prepare()

    return Request(prepare, 100, time.monotonic() + 10)


@pytest.mark.parametrize("decoders", [0, 1])
async def test_what_a_thread_still_holds_is_counted_after_its_caller_has_left(make, decoders):
    free = threading.Event()
    batcher = make(decoders=decoders, max_queued_bytes=150)
    held = asyncio.create_task(batcher.submit(image(1, on_prepare=lambda: free.wait(5))))
    await eventually(lambda: batcher.longest_busy_s() > 0)
    held.cancel()
    await asyncio.wait([held])
    with pytest.raises(Overloaded):
        await batcher.submit(image(2))
    free.set()
    await eventually(lambda: batcher.depth == 0)
    assert values([await batcher.submit(image(3))]) == [3]


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
