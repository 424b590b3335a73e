"""A model whose calls a test holds and releases, micro-batchers for it, and requests."""

import asyncio
import threading
import time

import numpy as np
from image_categorizer_server.inference.engine.admission import Bounds
from image_categorizer_server.inference.engine.dispatcher import Policy
from image_categorizer_server.inference.engine.entry import Request
from image_categorizer_server.inference.engine.guard import Guard
from image_categorizer_server.inference.engine.latency import LatencyTable
from image_categorizer_server.inference.engine.microbatcher import MicroBatcher
from image_categorizer_server.inference.images.preprocess import Input
from image_categorizer_server.inference.runtimes import Answer
from image_categorizer_server.telemetry.metrics import ModelMeter

from tests.support.polling import elapsed, eventually

POISON = 13
NOT_A_NUMBER = 14


class Device:
    """A model that answers with each input's first byte, and can be held."""

    def __init__(self, memory_images=1000, error=None):
        """Makes a device that is free.

        Args:
            memory_images: larger micro-batches run out of memory.
            error: raised by every call, until `repair`.
        """
        self.batches = []
        self.free = threading.Event()
        self.free.set()
        self._memory_images = memory_images
        self._error = error

    def fail_with(self, error):
        self._error = error

    def repair(self):
        self._error = None

    @property
    def sizes(self):
        return [len(batch) for batch in self.batches]

    def predict(self, inputs, with_features):
        values = [int(array.flat[0]) for array in inputs]
        self.batches.append(values)
        assert self.free.wait(5)
        if self._error:
            raise self._error
        if POISON in values:
            raise RuntimeError("cannot")
        if len(values) > self._memory_images:
            raise MemoryError("out of memory")
        rows = [[np.nan if value == NOT_A_NUMBER else value] for value in values]
        features = np.ones((len(values), 1, 1, 1), np.float32) if with_features else None
        return Answer(np.array(rows, np.float32), features)


def image(value, *, in_s=10.0, on_prepare=lambda: None, whole=None, **fields):
    """Returns a request for one image of one value; `on_prepare` is called in the thread.

    With `whole`, the input has a whole picture of that value.
    """
    pictured = None if whole is None else np.full((4, 2, 3), whole, np.uint8)

    def prepare():
        on_prepare()
        return Input(np.full((2, 2, 3), value, np.uint8), 0.5, 2, 2, whole=pictured)

    with_whole = whole is not None
    return Request(prepare, 100, time.monotonic() + in_s, with_whole=with_whole, **fields)


def batcher_of(device, *, max_size=4, trace=None, table=None, single=None, **changes):
    """Returns a micro-batcher with one runner and one decoder.

    With `single`, another device answers an image while no other waits.
    """
    bounds = Bounds(changes.pop("max_queued", 8), changes.pop("max_queued_bytes", 10_000), 0.5)
    fields = {
        "runners": 1,
        "decoders": 1,
        "niceness": 10,
        "max_delay_s": 0.0,
        "hold_s": 0.0,
        "lane_share": 0.25,
    } | changes
    guard = Guard(device.predict, max_size, single and single.predict)
    policy = Policy(bounds=bounds, **fields)
    meter = ModelMeter("fake", "1")
    return MicroBatcher(guard, LatencyTable(table or {1: 0.001}), policy, meter, trace)


async def behind_a_held_device(batcher, device, requests):
    """Holds the device with one input and queues `requests` behind it; returns all tasks."""
    device.free.clear()
    first = asyncio.create_task(batcher.submit(image(0)))
    await eventually(lambda: device.batches, interval_s=0.001)
    tasks = []
    for request in requests:
        tasks.append(asyncio.create_task(batcher.submit(request)))
        await elapsed(0)
    await eventually(lambda: not batcher._dispatcher.undecoded, interval_s=0.001)
    await elapsed(0.01)  # the last one is being decoded
    return [first, *tasks]


def values(outcomes):
    """Returns what the device answered."""
    return [outcome.confidences[0] for outcome in outcomes]
