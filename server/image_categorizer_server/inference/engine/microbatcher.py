"""Micro-batching: turns many single requests into few large model calls.

    submit ─▶ undecoded ─▶ decode ─▶ decoded ─▶ micro-batch ─▶ predict ─▶ outcome
    └ event loop    └──────────── runners, decoders ─────────────┘     event loop ┘

Runners are threads that call the model, as many as calls may run at once.  A runner that finds no
micro-batch ready decodes the next image itself, so on a CPU images rarely change threads; where
that would leave the device idle, on a GPU, decoders work ahead of the runners.

What goes next, and when a micro-batch leaves, is `dispatcher`'s to say; what is refused,
`admission`'s; what fails alone, `guard`'s.  Who left or is late is dropped before decoding and
before the model.  Outcomes go back to the event loop by `delivery`; nothing else passes it.
"""

import asyncio
import itertools
import os
import sys
import threading
import time
from collections import Counter

from image_categorizer_server.domain.classification import Lane
from image_categorizer_server.errors import DeadlineExceeded, ModelFailing
from image_categorizer_server.inference.engine.admission import Load, check_deadline, check_room
from image_categorizer_server.inference.engine.delivery import Delivery
from image_categorizer_server.inference.engine.dispatcher import Dispatcher, Policy
from image_categorizer_server.inference.engine.entry import (
    Batch,
    Entry,
    Outcome,
    Request,
    Settled,
    settle,
)
from image_categorizer_server.inference.engine.guard import Guard, Row
from image_categorizer_server.inference.engine.latency import LatencyTable, ServiceRate
from image_categorizer_server.inference.engine.trace import Trace

# Part of the first guess of the service rate, which then is measured.
DECODE_GUESS_S = 0.003
# Where lane BATCH may take all turns, what INTERACTIVE is taken to get.
LEAST_SHARE = 0.05


class BatcherStopped(Exception):
    """Expected: the model was let go of; ask the registry for its successor."""


class MicroBatcher:
    """Feeds one model from many callers."""

    def __init__(
        self, guard: Guard, table: LatencyTable, policy: Policy, trace: Trace | None = None
    ) -> None:
        """Starts the threads; must be called on the event loop that will submit."""
        self._guard = guard
        self._table = table
        self._policy = policy
        self._trace = trace
        self._loop = asyncio.get_running_loop()
        size = guard.max_size
        guess_s = table.estimate_s(size) / size / policy.runners
        self._rate = ServiceRate(guess_s + DECODE_GUESS_S / (policy.decoders or policy.runners))
        self._numbers = itertools.count()
        self._callers: dict[Lane, int] = dict.fromkeys(Lane, 0)
        self._tenants: Counter[tuple[Lane, str]] = Counter()
        self._content_bytes = 0
        self._all_gone = asyncio.Event()
        self._all_gone.set()
        # What follows is shared with the threads and guarded by the lock of both conditions.
        lock = threading.Lock()
        self._for_runners = threading.Condition(lock)
        self._for_decoders = threading.Condition(lock) if policy.decoders else self._for_runners
        self._dispatcher = Dispatcher(guard, table, policy, self._drop)
        self._delivery = Delivery(self._loop, policy.hold_s)
        self._is_stopped = False
        self._busy_since_s: dict[int, float] = {}
        self._threads = [self._started(f"runner-{i}", True) for i in range(policy.runners)]
        self._threads += [self._started(f"decoder-{i}", False) for i in range(policy.decoders)]

    def _started(self, name: str, is_runner: bool) -> threading.Thread:
        thread = threading.Thread(target=self._work, args=[is_runner], name=name, daemon=True)
        thread.start()
        return thread

    @property
    def depth(self) -> int:
        """How many images are between arrival and outcome."""
        return sum(self._callers.values())

    @property
    def is_broken(self) -> bool:
        """Whether the model fails on everything and must be loaded anew."""
        return self._guard.is_broken

    def longest_busy_s(self) -> float:
        """Returns for how long the slowest thread has been at its present piece of work."""
        now_s = time.monotonic()
        return max((now_s - since_s for since_s in list(self._busy_since_s.values())), default=0.0)

    async def submit(self, request: Request) -> Outcome:
        """Returns the outcome for one image; a caller who is cancelled costs nothing further.

        Raises:
            BatcherStopped: the model is no longer served here.
            Overloaded, DeadlineUnreachable: refused at the door, nothing was begun.
            DeadlineExceeded: the deadline passed while it waited.
            CategorizerError: what `prepare` raised, or that the model fails on it.
        """
        if self._is_stopped or self._guard.is_broken:
            raise BatcherStopped
        self._admit(request)
        lane, deadline_s = request.lane, request.deadline_s
        number = next(self._numbers)
        future: asyncio.Future[Outcome] = self._loop.create_future()
        entry = Entry(number, request, future, lane, request.tenant_id, deadline_s)
        if self._trace:
            self._trace.write("admit", id=number, lane=lane.value, deadline_s=deadline_s)
        self._callers[lane] += 1
        self._tenants[lane, request.tenant_id] += 1
        self._content_bytes += request.size_bytes
        self._all_gone.clear()
        try:
            with self._for_decoders:
                self._dispatcher.undecoded.push(entry)
                self._for_decoders.notify()
            return await future
        finally:
            self._callers[lane] -= 1
            self._leave(lane, request.tenant_id)
            self._content_bytes -= request.size_bytes
            if self.depth == 0:
                self._all_gone.set()

    async def drained(self) -> None:
        """Returns when no caller waits."""
        await self._all_gone.wait()

    async def stop(self) -> None:
        """Takes no more requests, waits until no caller waits, then ends the threads."""
        self._is_stopped = True
        await self.drained()
        with self._for_runners:
            self._for_runners.notify_all()
            self._for_decoders.notify_all()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    def _leave(self, lane: Lane, tenant_id: str) -> None:
        self._tenants[lane, tenant_id] -= 1
        if not self._tenants[lane, tenant_id]:
            del self._tenants[lane, tenant_id]

    def _admit(self, request: Request) -> None:
        lane, interval_s = request.lane, self._rate.interval_s
        ahead = self.depth if lane is Lane.BATCH else self._callers[lane]
        own = self._tenants[lane, request.tenant_id]
        load = Load(self.depth, self._content_bytes, own)
        check_room(self._policy.bounds, load, lane, request.size_bytes, interval_s)
        remaining_s = request.deadline_s - time.monotonic()
        if lane is Lane.INTERACTIVE and self._callers[Lane.BATCH]:
            interval_s /= max(1 - self._policy.lane_share, LEAST_SHARE)
        most = self._guard.max_size
        # While more wait than one micro-batch holds, none leaves smaller for one image's sake.
        is_backlog = self.depth >= most
        needed_s = ahead * interval_s + self._table.estimate_s(most if is_backlog else 1)
        if needed_s > remaining_s:  # only then is it worth counting who really goes first
            with self._for_runners:
                before = self._dispatcher.count_before(request)
            under_way_s = self._table.estimate_s(most) if self.depth else 0.0
            least = self._table.least_efficient(most) if is_backlog else 1
            call_s = self._table.estimate_s(max(least, min(before + 1, most)))
            needed_s = min(needed_s, under_way_s + before * interval_s + call_s)
        check_deadline(remaining_s, needed_s)

    def _work(self, is_runner: bool) -> None:
        """Runs in a thread: decodes and, as a runner, calls the model, until stopped."""
        give_way(self._policy.niceness)
        condition = self._for_runners if is_runner else self._for_decoders
        dispatcher, me = self._dispatcher, threading.get_ident()
        while True:
            with condition:
                work, wait_s = dispatcher.next(is_runner=is_runner)
                while work is None:
                    if self._is_stopped and not self.depth:
                        return
                    self._delivery.flush()
                    dispatcher.idle_runners += is_runner
                    condition.wait(wait_s)
                    dispatcher.idle_runners -= is_runner
                    work, wait_s = dispatcher.next(is_runner=is_runner)
                if is_runner and dispatcher.decoded and dispatcher.idle_runners:
                    condition.notify()
            self._busy_since_s[me] = time.monotonic()
            if isinstance(work, Batch):
                self._run(work)
            else:
                self._decode(work, is_runner)
            del self._busy_since_s[me]

    def _drop(self, entry: Entry, reason: str) -> None:
        if self._trace:
            self._trace.write("drop", id=entry.number, reason=reason)
        if not entry.is_abandoned:
            late = DeadlineExceeded("the deadline passed before the answer was ready")
            self._settle(entry, late)

    def _settle(self, entry: Entry, error: Exception) -> None:
        settled: Settled = [(entry, error)]
        self._loop.call_soon_threadsafe(settle, settled)

    def _decode(self, entry: Entry, is_runner: bool) -> None:
        try:
            entry.input = entry.request.prepare()
        except Exception as error:  # noqa: BLE001 - it is the caller's to hear of
            if self._trace:
                reason = getattr(error, "reason", "INTERNAL")
                self._trace.write("drop", id=entry.number, reason=reason)
            self._settle(entry, error)
            return
        if self._trace:
            self._trace.write("decode", id=entry.number, ms=entry.input.decode_ms)
        with self._for_runners:
            self._dispatcher.decoded.push(entry)
            if not is_runner:
                self._for_runners.notify()

    def _run(self, batch: Batch) -> None:
        if self._trace:
            ids = [entry.number for entry in batch.entries]
            self._trace.write("batch", ids=ids, size=len(ids), reason=batch.reason.value)
        with_features = any(entry.request.with_features for entry in batch.entries)
        inputs = [entry.input.array for entry in batch.entries if entry.input]
        start_s = time.monotonic()
        results = self._guard.run(inputs, with_features)
        end_s = time.monotonic()
        settled: Settled = [
            (entry, _outcome(entry, result, batch, start_s, end_s))
            for entry, result in zip(batch.entries, results, strict=True)
        ]
        if self._trace:
            for entry, outcome in settled:
                self._trace.write("result", id=entry.number, ok=isinstance(outcome, Outcome))
        with self._for_runners:
            self._table.observe(len(inputs), end_s - start_s)
            self._rate.observe(len(inputs), end_s, more_wait=self.depth > len(inputs))
            if self._guard.is_broken:
                error = ModelFailing("the model failed and is being loaded anew")
                settled += [(entry, error) for entry in self._dispatcher.clear()]
            is_busy = self._dispatcher.waiting >= self._guard.max_size * self._policy.runners
            next_s = self._rate.interval_s * self._guard.max_size
            self._delivery.add(settled, is_busy=is_busy, next_s=next_s)


def give_way(niceness: int) -> None:
    """Lowers this thread's priority where the system knows priorities of threads: on Linux.

    The event loop's work for an image is short, but late it idles clients and refuses late.  With
    both cores busy, 32 clients and threads of equal priority it waited for whole time slices: 0.80
    of the raw limit in place of 0.91, and refusals after 1.9 s in place of 0.1 s at 5 times the
    capacity.
    """
    if niceness and sys.platform == "linux":
        me = threading.get_native_id()
        already = os.getpriority(os.PRIO_PROCESS, me)
        os.setpriority(os.PRIO_PROCESS, me, max(niceness, already))


def _outcome(
    entry: Entry, result: Row | Exception, batch: Batch, start_s: float, end_s: float
) -> Outcome | Exception:
    if not isinstance(result, Row):
        return result
    assert entry.input is not None
    queue_ms = (start_s - entry.arrival_s) * 1000 - entry.input.decode_ms
    return Outcome(
        confidences=result.confidences,
        features=result.features,
        input=entry.input,
        queue_ms=max(0.0, queue_ms),
        inference_ms=(end_s - start_s) * 1000,
        batch_size=len(batch.entries),
        close_reason=batch.reason,
    )
