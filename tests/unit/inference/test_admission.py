"""Deadlines and capacity: which images are refused, and which are accepted in a backlog."""

import asyncio
import itertools
import json

import pytest
from image_categorizer_server.domain.classification import BatchCloseReason, Lane
from image_categorizer_server.errors import (
    DeadlineExceeded,
    DeadlineUnreachable,
    Overloaded,
)
from image_categorizer_server.inference.engine.trace import Trace

from tests.support.batching import behind_a_held_device, image, values
from tests.support.polling import elapsed


async def test_a_delay_ends_before_a_deadline_would_pass(make, device):
    batcher = make(max_delay_s=5, table={1: 0.01, 4: 0.04})
    outcome = await asyncio.wait_for(batcher.submit(image(1, in_s=1.5)), 4)
    assert outcome.close_reason is BatchCloseReason.DEADLINE


async def test_a_micro_batch_stays_small_enough_for_its_most_urgent_image(make, device):
    requests = [image(1, in_s=0.7), image(2), image(3), image(4)]
    batcher = make(table={1: 0.1, 4: 2.1})
    tasks = await behind_a_held_device(batcher, device, requests)
    device.free.set()
    outcomes = await asyncio.gather(*tasks)
    assert device.batches[1] == [1]
    assert outcomes[1].close_reason is BatchCloseReason.DEADLINE


async def test_an_image_beyond_the_capacity_is_refused(make, device):
    batcher = make()
    tasks = await behind_a_held_device(batcher, device, map(image, range(1, 8)))
    with pytest.raises(Overloaded, match="too many images") as refused:
        await batcher.submit(image(9))
    assert refused.value.retry_after_s > 0
    device.free.set()
    await asyncio.gather(*tasks)
    assert values([await batcher.submit(image(9))]) == [9]


async def test_the_capacity_in_bytes_is_limited_too(make, device):
    batcher = make(max_queued_bytes=250)
    tasks = await behind_a_held_device(batcher, device, [image(1)])
    with pytest.raises(Overloaded):
        await batcher.submit(image(2))
    device.free.set()
    await asyncio.gather(*tasks)


async def test_lane_batch_keeps_capacity_free_for_interactive(make, device):
    batcher = make()
    waiting = [image(value, lane=Lane.BATCH) for value in range(1, 4)]
    tasks = await behind_a_held_device(batcher, device, waiting)
    with pytest.raises(Overloaded):
        await batcher.submit(image(9, lane=Lane.BATCH))
    tasks.append(asyncio.create_task(batcher.submit(image(4))))
    device.free.set()
    assert values(await asyncio.gather(*tasks)) == [0, 1, 2, 3, 4]


async def test_lane_batch_of_one_tenant_keeps_capacity_free_for_others(make, device):
    def bulk(value, tenant_id):
        return image(value, lane=Lane.BATCH, tenant_id=tenant_id)

    batcher = make(max_queued=38)
    tasks = await behind_a_held_device(batcher, device, [bulk(1, "large") for _ in range(16)])
    with pytest.raises(Overloaded):
        await batcher.submit(bulk(9, "large"))
    tasks.append(asyncio.create_task(batcher.submit(bulk(2, "small"))))
    await elapsed(0.01)
    device.free.set()
    await asyncio.gather(*tasks)
    again = [asyncio.create_task(batcher.submit(bulk(3, "large"))) for _ in range(16)]
    assert values(await asyncio.gather(*again)) == [3] * 16


async def test_an_image_that_would_be_late_is_refused(make, device):
    batcher = make(table={1: 0.2})
    with pytest.raises(DeadlineUnreachable, match=r"0\.2 s") as refused:
        await batcher.submit(image(1, in_s=0.1))
    assert refused.value.retry_after_s >= 0.1
    assert device.batches == []
    assert values([await batcher.submit(image(1, in_s=1))]) == [1]


async def test_an_urgent_image_is_accepted_in_a_backlog_of_less_urgent_ones(make, device):
    batcher = make(table={1: 0.05}, max_size=1, max_queued=100)
    tasks = await behind_a_held_device(batcher, device, [image(9, in_s=50) for _ in range(40)])
    with pytest.raises(DeadlineUnreachable):
        await batcher.submit(image(8, in_s=0.02))
    urgent = asyncio.create_task(batcher.submit(image(8, in_s=0.9)))
    await elapsed(0.02)
    device.free.set()
    assert values([await urgent]) == [8]
    await asyncio.gather(*tasks)
    assert device.batches.index([8]) <= 2


async def test_in_a_backlog_no_micro_batch_closes_smaller_for_an_urgent_image(make, device):
    requests = [image(1, in_s=0.9), *map(image, range(2, 6))]
    batcher = make(table={1: 0.3, 4: 0.4})  # a smaller micro-batch is hardly faster
    first, late, *others = await behind_a_held_device(batcher, device, requests)
    await elapsed(0.6)
    device.free.set()
    with pytest.raises(DeadlineExceeded):
        await late
    await asyncio.gather(first, *others)
    assert device.batches == [[0], [2, 3, 4, 5]]


async def test_in_a_backlog_the_estimate_uses_the_time_of_a_full_micro_batch(make, device):
    batcher = make(table={1: 0.3, 4: 0.5})
    waiting = (image(value, in_s=1.1) for value in range(1, 5))
    tasks = await behind_a_held_device(batcher, device, waiting)
    with pytest.raises(DeadlineUnreachable):  # 5 images at 0.128 s, and then 0.5 s
        await batcher.submit(image(9, in_s=1.11))
    device.free.set()
    await asyncio.gather(*tasks)


async def test_the_share_of_lane_batch_counts_in_the_estimate(make, device):
    batcher = make(table={1: 0.1}, max_size=1, max_queued=20)
    interactive = (image(value, in_s=0.85) for value in range(1, 6))
    waiting = itertools.chain([image(8, lane=Lane.BATCH)], interactive)
    tasks = await behind_a_held_device(batcher, device, waiting)
    with pytest.raises(
        DeadlineUnreachable
    ):  # 0.103 s an image, and a quarter of the images are of lane BATCH
        await batcher.submit(image(9, in_s=0.86))
    device.free.set()
    await asyncio.gather(*tasks)


async def test_a_late_image_costs_no_model_call(make, device, tmp_path):
    with Trace(tmp_path / "trace") as trace:
        batcher = make(trace=trace)
        first, late = await behind_a_held_device(batcher, device, [image(1, in_s=0.1)])
        await elapsed(0.12)
        device.free.set()
        await first
        with pytest.raises(DeadlineExceeded):
            await late
    assert device.batches == [[0]]
    events = [json.loads(line) for line in (tmp_path / "trace").read_text().splitlines()]
    assert [event["event"] for event in events if event.get("id") == 1] == [
        "admit",
        "decode",
        "drop",
    ]
    assert events[-1]["reason"] == "DEADLINE_EXCEEDED"
