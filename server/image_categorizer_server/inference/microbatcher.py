"""Micro-batching: turns many single requests into few large model calls.

    submit ─▶ prepare, in the decode pool ─▶ waiting ─▶ micro-batch ─▶ predict, in a runner ─▶ outcome
    └ event loop                                                                event loop ┘

A runner is a thread that makes one model call after the other: a GPU has one, a CPU as many as it
runs calls side by side.  A micro-batch leaves as soon as a runner is free, with its share of what
waits then (`IDLE`), or with `max_size` inputs if as many wait (`FULL`): an idle runner never waits
for company.  Under load the waiting inputs grow while the runners work, so micro-batches grow by
themselves; it is the policy of text-embeddings-inference.

Inputs go from thread to thread without passing the event loop, which has answers to send meanwhile:
a runner that asked the loop for its next micro-batch stood idle for a tenth of its time.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.domain import BatchCloseReason
from image_categorizer_server.errors import Overloaded
from image_categorizer_server.inference.preprocess import Input
from image_categorizer_server.inference.runtimes import Answer

Prepare = Callable[[], Input]
Predict = Callable[[Sequence[NDArray[np.uint8]]], Answer]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one input got, and in which company."""

    confidences: NDArray[np.float32]
    """float32 (C,)."""
    decode_ms: float
    queue_ms: float
    """Waiting for a decoder and for the micro-batch."""
    inference_ms: float
    batch_size: int
    close_reason: BatchCloseReason


@dataclass(slots=True)
class _Entry:
    prepare: Prepare
    outcome: asyncio.Future[Outcome]
    arrival_s: float = field(default_factory=time.perf_counter)
    input: Input | None = None

    @property
    def is_abandoned(self) -> bool:
        """Whether nobody waits for the outcome any more."""
        return self.outcome.done()


class MicroBatcher:
    """Feeds one model from many callers, one micro-batch at a time for each runner."""

    def __init__(
        self,
        predict: Predict,
        decode_pool: Executor,
        *,
        max_size: int,
        max_queued: int,
        runners: int,
    ) -> None:
        """Starts the runners; must be called on the event loop that will submit.

        Args:
            predict: maps N inputs uint8 (H, W, 3) to confidences float32 (N, C), in the same order.
            decode_pool: where inputs are prepared.
            max_size: largest N.
            max_queued: most callers between arrival and outcome; the next one is refused.
            runners: how many calls of `predict` may run at once.
        """
        self._predict = predict
        self._decode_pool = decode_pool
        self._max_size = max_size
        self._max_queued = max_queued
        self._loop = asyncio.get_running_loop()
        self._callers = 0
        self._all_gone = asyncio.Event()
        self._all_gone.set()
        # What follows is shared with the runners and guarded by the condition.
        self._changed = threading.Condition()
        self._waiting: deque[_Entry] = deque()
        self._free_runners = runners
        self._is_stopping = False
        self._runners = [
            threading.Thread(target=self._serve, name=f"runner-{i}", daemon=True)
            for i in range(runners)
        ]
        for runner in self._runners:
            runner.start()

    async def submit(self, prepare: Prepare) -> Outcome:
        """Returns the outcome for one input; a caller who is cancelled costs nothing further.

        Args:
            prepare: makes the input; runs in the decode pool.

        Raises:
            Overloaded: expected; `max_queued` callers wait already, nothing was begun.
            Exception: whatever `prepare` raised, or `predict` for this micro-batch.
        """
        if self._callers >= self._max_queued:
            raise Overloaded(f"{self._max_queued} images are waiting for this model already")
        entry = _Entry(prepare, self._loop.create_future())
        self._callers += 1
        self._all_gone.clear()
        try:
            self._decode_pool.submit(self._prepare, entry)
            return await entry.outcome
        finally:
            self._callers -= 1
            if self._callers == 0:
                self._all_gone.set()

    async def drained(self) -> None:
        """Returns when no caller waits."""
        await self._all_gone.wait()

    async def stop(self) -> None:
        """Waits until no caller waits, then ends the runners."""
        await self.drained()
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        for runner in self._runners:
            await asyncio.to_thread(runner.join)

    def _prepare(self, entry: _Entry) -> None:
        """Runs in the decode pool."""
        if entry.is_abandoned:
            return
        try:
            entry.input = entry.prepare()
        except Exception as error:  # noqa: BLE001 - it is the caller's to hear of
            self._loop.call_soon_threadsafe(_fail, [entry], error)
            return
        with self._changed:
            self._waiting.append(entry)
            self._changed.notify()

    def _serve(self) -> None:
        """Runs in a runner."""
        while True:
            with self._changed:
                entries = self._take()
                while not entries:
                    if self._is_stopping:
                        return
                    self._changed.wait()
                    entries = self._take()
                self._free_runners -= 1
            self._run(entries)
            with self._changed:
                self._free_runners += 1

    def _take(self) -> list[_Entry]:
        entries: list[_Entry] = []
        share = min(self._max_size, -(-len(self._waiting) // self._free_runners))
        while self._waiting and len(entries) < share:
            entry = self._waiting.popleft()
            if not entry.is_abandoned:
                entries.append(entry)
        return entries

    def _run(self, entries: list[_Entry]) -> None:
        inputs = [entry.input for entry in entries if entry.input]
        start_s = time.perf_counter()
        try:
            rows = self._predict([prepared.array for prepared in inputs]).confidences
            inference_ms = (time.perf_counter() - start_s) * 1000
            is_full = len(entries) == self._max_size
            reason = BatchCloseReason.FULL if is_full else BatchCloseReason.IDLE
            outcomes = [
                Outcome(
                    confidences=row,
                    decode_ms=prepared.decode_ms,
                    queue_ms=(start_s - entry.arrival_s) * 1000 - prepared.decode_ms,
                    inference_ms=inference_ms,
                    batch_size=len(entries),
                    close_reason=reason,
                )
                for entry, prepared, row in zip(entries, inputs, rows, strict=True)
            ]
        except Exception as error:  # noqa: BLE001 - a failed micro-batch must not stop the next
            self._loop.call_soon_threadsafe(_fail, entries, error)
        else:
            self._loop.call_soon_threadsafe(_settle, entries, outcomes)


def _settle(entries: list[_Entry], outcomes: list[Outcome]) -> None:
    for entry, outcome in zip(entries, outcomes, strict=True):
        if not entry.is_abandoned:
            entry.outcome.set_result(outcome)


def _fail(entries: list[_Entry], error: Exception) -> None:
    for entry in entries:
        if not entry.is_abandoned:
            entry.outcome.set_exception(error)
