"""Micro-batching: turns many single requests into few large model calls.

    place() ─▶ caller decodes ─▶ submit(input) ─▶ micro-batch ─▶ predict, in a thread of a lane

A lane is one model call at a time: a GPU has one, a CPU as many as it runs calls side by side.  A
micro-batch leaves as soon as a lane is free, with its share of what waits then (`IDLE`), or with
`max_size` inputs if as many wait (`FULL`): an idle lane never waits for company.  Under load the
waiting inputs grow while the lanes work, so micro-batches grow by themselves; it is the policy of
text-embeddings-inference.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.domain import BatchCloseReason
from image_categorizer_server.errors import Overloaded

Predict = Callable[[Sequence[NDArray[np.uint8]]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one input got, and in which company."""

    confidences: NDArray[np.float32]
    """float32 (C,)."""
    start_s: float
    """When its micro-batch left, on `time.perf_counter`."""
    inference_ms: float
    batch_size: int
    close_reason: BatchCloseReason


@dataclass(slots=True)
class _Entry:
    input: NDArray[np.uint8]
    outcome: asyncio.Future[Outcome]


class MicroBatcher:
    """Feeds one model from many callers, one micro-batch at a time for each lane."""

    def __init__(
        self, predict: Predict, executor: Executor, *, max_size: int, max_queued: int, lanes: int
    ) -> None:
        """Configures the batcher; `serve` starts it.

        Args:
            predict: maps N inputs uint8 (H, W, 3) to confidences float32 (N, C), in the same order.
            executor: where `predict` runs; at least `lanes` threads.
            max_size: largest N.
            max_queued: most callers between `place` and their outcome; the next one is refused.
            lanes: how many calls of `predict` may run at once.
        """
        self._predict = predict
        self._executor = executor
        self._max_size = max_size
        self._max_queued = max_queued
        self._lanes = lanes
        self._free_lanes = lanes
        self._waiting: deque[_Entry] = deque()
        self._arrived = asyncio.Event()
        self._places_taken = 0
        self._vacated = asyncio.Event()

    @contextmanager
    def place(self) -> Iterator[None]:
        """Takes a place in the queue while the block runs; take it before decoding.

        Raises:
            Overloaded: expected; all `max_queued` places are taken.
        """
        if self._places_taken >= self._max_queued:
            raise Overloaded(f"{self._max_queued} images are waiting for this model already")
        self._places_taken += 1
        try:
            yield
        finally:
            self._places_taken -= 1
            self._vacated.set()

    async def submit(self, array: NDArray[np.uint8]) -> Outcome:
        """Returns the outcome for one input; a caller cancelled while waiting costs nothing.

        Raises:
            Exception: unexpected; whatever `predict` raised for this micro-batch.
        """
        entry = _Entry(array, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        self._arrived.set()
        return await entry.outcome

    async def serve(self) -> None:
        """Runs micro-batches until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._lanes):
                group.create_task(self._serve_lane())

    async def _serve_lane(self) -> None:
        while True:
            await self._arrived.wait()
            entries, reason = self._take()
            if entries:
                self._free_lanes -= 1
                try:
                    await self._run(entries, reason)
                finally:
                    self._free_lanes += 1

    async def drained(self) -> None:
        """Returns when no place is taken: every caller has gone."""
        while self._places_taken:
            self._vacated.clear()
            await self._vacated.wait()

    def _take(self) -> tuple[list[_Entry], BatchCloseReason]:
        entries: list[_Entry] = []
        share = -(-len(self._waiting) // self._free_lanes)
        while self._waiting and len(entries) < min(share, self._max_size):
            entry = self._waiting.popleft()
            if not entry.outcome.done():  # else its caller has left
                entries.append(entry)
        if not self._waiting:
            self._arrived.clear()
        return entries, BatchCloseReason.FULL if len(
            entries
        ) == self._max_size else BatchCloseReason.IDLE

    async def _run(self, entries: list[_Entry], reason: BatchCloseReason) -> None:
        inputs = [entry.input for entry in entries]
        start_s = time.perf_counter()
        try:
            rows = await asyncio.get_running_loop().run_in_executor(
                self._executor, self._predict, inputs
            )
            pairs = list(zip(entries, rows, strict=True))
        except Exception as error:  # noqa: BLE001 - a failed micro-batch must not stop the next
            for entry in entries:
                if not entry.outcome.done():
                    entry.outcome.set_exception(error)
            return
        inference_ms = (time.perf_counter() - start_s) * 1000
        for entry, row in pairs:
            if not entry.outcome.done():
                entry.outcome.set_result(Outcome(row, start_s, inference_ms, len(entries), reason))
