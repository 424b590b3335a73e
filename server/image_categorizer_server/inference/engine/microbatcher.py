"""The micro-batcher: turns many single requests into few large model calls.

    submit ─▶ undecoded ─▶ decode ─▶ decoded ─▶ micro-batch ─▶ predict ─▶ outcome
    └ event loop    └──────────── runners, decoders ─────────┐   │     event loop ┘
                                     answered ─▶ locate ─────┴───┘

Runners are threads that call the model; their number is the number of calls that may run at once.
A runner without a micro-batch decodes the next image itself, so on a CPU an image rarely changes
threads.  On a GPU that would leave the device idle, so decoders work ahead of the runners.

Boxes and heat maps are made like inputs: by decoders, or by runners where these decode.  Where the
input has a whole picture, a runner shows it to the model first, between two micro-batches.

`admission` refuses requests, `dispatcher` decides what runs next and when a micro-batch closes,
`guard` isolates failures.  Requests that are late or abandoned are dropped before decoding,
before the model call and before boxes are made.  An image is counted until no queue and no thread
holds it: one whose caller leaves is removed from its queue at once, or counted until its thread is
done.  Only outcomes pass back to the event loop, by `Delivery`.
"""

import asyncio
import itertools
import os
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from functools import partial

from image_categorizer_server.domain.classification import Lane
from image_categorizer_server.errors import CategorizerError, DeadlineExceeded, ModelFailing
from image_categorizer_server.inference.engine.admission import Load, check_capacity, check_deadline
from image_categorizer_server.inference.engine.dispatcher import Dispatcher, Policy
from image_categorizer_server.inference.engine.entry import (
    Delivery,
    Entry,
    MicroBatch,
    Outcome,
    Request,
    Result,
    deliver,
)
from image_categorizer_server.inference.engine.guard import Guard, Row
from image_categorizer_server.inference.engine.latency import (
    Average,
    LatencyTable,
    ServiceRate,
)
from image_categorizer_server.inference.engine.queues import LaneQueue
from image_categorizer_server.inference.engine.trace import Trace
from image_categorizer_server.telemetry.metrics import CANCELLED, ModelMeter
from image_categorizer_server.telemetry.tracing import traced_together

# Part of the first guess of the service rate; later the rate is measured.
DECODE_GUESS_S = 0.003
# Of the time that the images ahead take.  Without it the last images of a full queue would be late
# as often as not, after all the work for them.
QUEUE_MARGIN = 1.1
# The share assumed for INTERACTIVE if lane BATCH may take everything.
MIN_SHARE = 0.05


class BatcherStopped(Exception):
    """The model is no longer served here; ask the registry for its successor."""


class MicroBatcher:
    """Serves one model to many callers."""

    def __init__(
        self,
        guard: Guard,
        table: LatencyTable,
        policy: Policy,
        meter: ModelMeter,
        trace: Trace | None = None,
    ) -> None:
        """Starts the threads; must be called on the event loop that will submit."""
        self._guard = guard
        self._table = table
        self._policy = policy
        self._meter = meter
        self._trace = trace
        self._loop = asyncio.get_running_loop()
        size = guard.max_size
        guess_s = table.estimate_s(size) / size / policy.runners
        self._rate = ServiceRate(guess_s + DECODE_GUESS_S / (policy.decoders or policy.runners))
        self._locating = Average()
        self._seeing = Average()
        self._numbers = itertools.count()
        self._callers: dict[Lane, int] = dict.fromkeys(Lane, 0)
        self._tenants: Counter[tuple[Lane, str]] = Counter()
        self._content_bytes = 0
        self._all_gone = asyncio.Event()
        self._all_gone.set()
        # Shared with the threads, and guarded by the lock of both conditions.
        lock = threading.Lock()
        self._for_runners = threading.Condition(lock)
        self._for_decoders = threading.Condition(lock) if policy.decoders else self._for_runners
        self._dispatcher = Dispatcher(guard, table, policy, self._drop)
        self._delivery = Delivery(self._loop, policy.hold_s)
        self._late_timer: asyncio.TimerHandle | None = None
        self._is_stopped = False
        self._busy_since_s: dict[int, float] = {}
        self._running_threads = policy.runners + policy.decoders
        self._threads_ended = asyncio.Event()
        self._threads = [self._started(f"runner-{i}", True) for i in range(policy.runners)]
        self._threads += [self._started(f"decoder-{i}", False) for i in range(policy.decoders)]

    def _started(self, name: str, is_runner: bool) -> threading.Thread:
        thread = threading.Thread(target=self._run_thread, args=[is_runner], name=name, daemon=True)
        thread.start()
        return thread

    def _run_thread(self, is_runner: bool) -> None:
        try:
            self._work(is_runner)
        except RuntimeError:
            if not self._loop.is_closed():  # otherwise nobody waits any more
                raise
        finally:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._count_ended_thread)

    def _count_ended_thread(self) -> None:
        self._running_threads -= 1
        if not self._running_threads:
            self._threads_ended.set()

    @property
    def depth(self) -> int:
        """The number of images between arrival and outcome."""
        return sum(self._callers.values())

    @property
    def is_broken(self) -> bool:
        """Whether the model fails on every image and has to be reloaded."""
        return self._guard.is_broken

    def longest_busy_s(self) -> float:
        """Returns for how many seconds the slowest thread has been busy with its current work."""
        now_s = time.monotonic()
        return max((now_s - since_s for since_s in list(self._busy_since_s.values())), default=0.0)

    async def submit(self, request: Request) -> Outcome:
        """Returns the outcome for one image.

        A cancelled caller causes no further work: what waits is forgotten at once.

        Raises:
            BatcherStopped: the model is no longer served here.
            Overloaded: there is no capacity.
            DeadlineUnreachable: the answer would be late.
            DeadlineExceeded: the deadline passed while the image waited.
            CategorizerError: raised by `prepare`, or the model fails on the image.
        """
        if self._is_stopped or self._guard.is_broken:
            raise BatcherStopped
        try:
            outcome = await self._outcome(request)
        except CategorizerError as error:
            self._meter.fail(error.reason)
            raise
        except asyncio.CancelledError:
            self._meter.fail(CANCELLED)
            raise
        self._meter.answer(outcome.input.decode_ms, outcome.queue_ms)
        return outcome

    async def _outcome(self, request: Request) -> Outcome:
        self._admit(request)
        lane, deadline_s = request.lane, request.deadline_s
        number = next(self._numbers)
        future: asyncio.Future[Outcome] = self._loop.create_future()
        entry = Entry(number, request, future, lane, request.tenant_id, deadline_s)
        if self._trace:
            self._trace.write("admit", id=number, lane=lane.value, deadline_s=deadline_s)
        self._meter.enter()
        self._callers[lane] += 1
        self._tenants[lane, request.tenant_id] += 1
        self._content_bytes += request.size_bytes
        self._all_gone.clear()
        if self._late_timer is None and self._policy.hold_s:
            self._late_timer = self._loop.call_later(self._policy.hold_s, self._flush_late)
        try:
            with self._for_decoders:
                self._dispatcher.put(self._dispatcher.undecoded, entry)
                self._for_decoders.notify()
            return await future
        finally:
            # After an outcome there is nothing to remove, so no thread's lock to wait for.
            if entry.is_over or self._is_removed(entry):
                self._forget(entry)
            else:
                entry.when_over = partial(self._forget, entry)

    def _is_removed(self, entry: Entry) -> bool:
        """Removes an image from its queue; returns False if a thread works on it."""
        with self._for_runners:
            if entry.queue is None:
                return False
            entry.queue.remove(entry)
            entry.queue = None
        self._meter.drop(_stage_of(entry))
        if self._trace:
            self._trace.write("drop", id=entry.number, reason=CANCELLED)
        return True

    def _flush_late(self) -> None:
        """Delivers results that wait too long, while there are callers.

        The runner that holds them may be in a call that hangs, or that fails and is repeated for
        each half of its micro-batch.
        """
        with self._for_runners:
            wait_s = self._delivery.flush_late()
        self._late_timer = self._loop.call_later(wait_s, self._flush_late) if self.depth else None

    def _forget(self, entry: Entry) -> None:
        """Stops counting an image that nothing holds any more."""
        self._meter.exit()
        self._callers[entry.lane] -= 1
        self._tenants[entry.lane, entry.tenant_id] -= 1
        if not self._tenants[entry.lane, entry.tenant_id]:
            del self._tenants[entry.lane, entry.tenant_id]
        self._content_bytes -= entry.request.size_bytes
        if self.depth == 0:
            self._all_gone.set()

    async def drained(self) -> None:
        """Returns once no caller waits, and no thread works for one that has left."""
        await self._all_gone.wait()

    async def stop(self) -> None:
        """Refuses new requests, waits for all callers, then ends the threads."""
        self._is_stopped = True
        await self.drained()
        if self._late_timer:  # it refers to us
            self._late_timer.cancel()
            self._late_timer = None
        with self._for_runners:
            self._for_runners.notify_all()
            self._for_decoders.notify_all()
        threads, self._threads = self._threads, []
        # Not `join` in a thread of the event loop: a process cannot end before those do.
        await self._threads_ended.wait()
        for thread in threads:
            thread.join()  # it has nothing left to do
        if threads:
            # Refers to us, and we to it: the model's memory would wait for the garbage collector.
            del self._dispatcher

    def _admit(self, request: Request) -> None:
        """Passes a request that has capacity and can be answered in time; see `admission`."""
        lane, interval_s = request.lane, self._rate.interval_s
        ahead = self.depth if lane is Lane.BATCH else self._callers[lane]
        own = self._tenants[lane, request.tenant_id]
        load = Load(self.depth, self._content_bytes, own)
        check_capacity(self._policy.bounds, load, lane, request.size_bytes, interval_s)
        remaining_s = request.deadline_s - time.monotonic()
        if lane is Lane.INTERACTIVE and self._callers[Lane.BATCH]:
            interval_s /= max(1 - self._policy.lane_share, MIN_SHARE)
        max_size = self._guard.max_size
        # In a backlog no micro-batch closes smaller for one image.
        is_backlog = self.depth >= max_size
        located_s = self._locating.seconds if request.locate else 0.0
        located_s += self._seeing.seconds if request.with_whole else 0.0
        interval_s *= QUEUE_MARGIN
        needed_s = ahead * interval_s + self._table.estimate_s(max_size if is_backlog else 1)
        needed_s += located_s
        if needed_s > remaining_s:
            # A rough estimate refuses too many: now count the images that really go first.
            with self._for_runners:
                before = self._dispatcher.count_before(request)
            running_s = self._table.estimate_s(max_size) if self.depth else 0.0
            min_size = self._table.smallest_efficient(max_size) if is_backlog else 1
            call_s = self._table.estimate_s(max(min_size, min(before + 1, max_size)))
            needed_s = min(needed_s, running_s + before * interval_s + call_s + located_s)
        check_deadline(remaining_s, needed_s)

    def _work(self, is_runner: bool) -> None:
        """The loop of a thread: decodes, locates and, in a runner, calls the model."""
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
                if is_runner and dispatcher.idle_runners and dispatcher.has_more:
                    condition.notify()
            self._busy_since_s[me] = time.monotonic()
            if isinstance(work, MicroBatch):
                self._run(work)
            elif work.is_unseen:
                self._see_whole(work)
            elif work.answer:
                self._locate(work, work.answer)
            else:
                self._decode(work, is_runner)
            del self._busy_since_s[me]

    def _drop(self, entry: Entry, reason: str) -> None:
        self._meter.drop(_stage_of(entry))
        if self._trace:
            self._trace.write("drop", id=entry.number, reason=reason)
        self._fail(entry, DeadlineExceeded("the deadline passed before the answer was ready"))

    def _fail(self, entry: Entry, error: Exception) -> None:
        self._loop.call_soon_threadsafe(deliver, [(entry, error)])

    def _decode(self, entry: Entry, is_runner: bool) -> None:
        try:
            entry.input = entry.request.prepare()
        except Exception as error:  # noqa: BLE001 - passed on to the caller
            if self._trace:
                reason = getattr(error, "reason", "INTERNAL")
                self._trace.write("drop", id=entry.number, reason=reason)
            self._fail(entry, error)
            return
        if self._trace:
            self._trace.write("decode", id=entry.number, ms=entry.input.decode_ms)
        with self._for_runners:
            self._wait_in(self._dispatcher.decoded, entry)
            if not is_runner:
                self._for_runners.notify()

    def _wait_in(self, queue: LaneQueue[Entry], entry: Entry) -> None:
        if entry.is_abandoned:
            self._drop(entry, CANCELLED)
        else:
            self._dispatcher.put(queue, entry)

    def _see_whole(self, entry: Entry) -> None:
        """Calls the model with a whole picture, so that boxes can be made."""
        answer = entry.answer
        assert answer is not None
        assert answer.input.whole is not None
        start_s = time.monotonic()
        (result,) = self._guard.run([answer.input.whole], True)
        seconds = time.monotonic() - start_s
        self._charge([entry])
        if self._trace:
            self._trace.write("whole", id=entry.number, ms=seconds * 1000)
        outcomes: list[Result] = []
        with self._for_runners:
            self._seeing.observe(seconds)
            if isinstance(result, Row):
                entry.answer = replace(
                    answer,
                    whole_features=result.features,
                    inference_ms=answer.inference_ms + seconds * 1000,
                )
                self._wait_in(self._dispatcher.answered, entry)
                if self._policy.decoders:
                    self._for_decoders.notify()
            else:
                outcomes.append((entry, result))
            outcomes += self._outcomes_if_broken()
            if outcomes:
                self._delivery.add(outcomes, is_busy=False, next_s=0)

    def _outcomes_if_broken(self) -> list[Result]:
        """Takes all images that wait for the model, if it fails on every image."""
        if not self._guard.is_broken:
            return []
        error = ModelFailing("the model failed and is being reloaded")
        return [(entry, error) for entry in self._dispatcher.clear()]

    def _locate(self, entry: Entry, answer: Outcome) -> None:
        start_s = time.monotonic()
        outcome: Outcome | Exception
        try:
            assert entry.request.locate is not None
            located = entry.request.locate(answer)
            features = answer.features if entry.request.keeps_features else None
            outcome = replace(answer, located=located, features=features, whole_features=None)
        except Exception as error:  # noqa: BLE001 - passed on to the caller
            outcome = error
        seconds = time.monotonic() - start_s
        if self._trace:
            self._trace.write("locate", id=entry.number, ms=seconds * 1000)
            self._trace.write("result", id=entry.number, ok=isinstance(outcome, Outcome))
        with self._for_runners:
            self._locating.observe(seconds)
            self._delivery.add([(entry, outcome)], is_busy=False, next_s=0)

    def _charge(self, entries: list[Entry]) -> None:
        """Shares the time of the model's last answer equally among the images that were in it."""
        share_ms = self._guard.model_s * 1000 / len(entries)
        for entry in entries:
            if entry.request.charge:
                entry.request.charge(share_ms)

    def _run(self, micro_batch: MicroBatch) -> None:
        entries = micro_batch.entries
        if self._trace:
            ids = [entry.number for entry in entries]
            self._trace.write("batch", ids=ids, size=len(ids), reason=micro_batch.reason.value)
        with_features = any(entry.request.with_features for entry in entries)
        inputs = [entry.input.array for entry in entries if entry.input]
        start_s = time.monotonic()
        is_single = self.depth == 1
        spans = [entry.request.span for entry in entries if entry.request.span]
        with traced_together("micro-batch", spans, self._attributes(micro_batch)):
            results = self._guard.run(inputs, with_features, is_single=is_single)
        end_s = time.monotonic()
        self._meter.execute(len(inputs), micro_batch.reason.value, end_s - start_s)
        self._charge(entries)
        outcomes: list[Result] = [
            (entry, _outcome(entry, result, micro_batch, start_s, end_s))
            for entry, result in zip(entries, results, strict=True)
        ]
        unfinished = [result for result in outcomes if _is_unfinished(*result)]
        outcomes = [result for result in outcomes if not _is_unfinished(*result)]
        if self._trace:
            for entry, outcome in outcomes:
                self._trace.write("result", id=entry.number, ok=isinstance(outcome, Outcome))
        with self._for_runners:
            for entry, outcome in unfinished:
                entry.answer = outcome if isinstance(outcome, Outcome) else None
                dispatcher = self._dispatcher
                self._wait_in(dispatcher.unseen if entry.is_unseen else dispatcher.answered, entry)
            if unfinished and self._policy.decoders:
                self._for_decoders.notify(len(unfinished))
            if not is_single:  # such a call is no measure for the others
                self._table.observe(len(inputs), end_s - start_s)
            self._rate.observe(len(inputs), end_s, more_wait=self.depth > len(inputs))
            outcomes += self._outcomes_if_broken()
            is_busy = self._dispatcher.waiting >= self._guard.max_size * self._policy.runners
            next_s = self._rate.interval_s * self._guard.max_size
            if outcomes:
                self._delivery.add(outcomes, is_busy=is_busy, next_s=next_s)

    def _attributes(self, micro_batch: MicroBatch) -> dict[str, str | int]:
        model, version = self._meter.labels
        return {
            "categorizer.model": model,
            "categorizer.model_version": version,
            "categorizer.micro_batch.size": len(micro_batch.entries),
            "categorizer.micro_batch.close_reason": micro_batch.reason.value,
        }


def _stage_of(entry: Entry) -> str:
    """Returns what an image waits for."""
    if entry.answer is not None:
        return "locate"
    return "decode" if entry.input is None else "model"


def give_way(niceness: int) -> None:
    """Lowers the priority of the current thread on Linux, where threads have priorities.

    The event loop's work for an image is short, but if it is late, clients idle and refusals are
    late too.  With both cores busy, 32 clients and threads of equal priority, it waited for whole
    time slices: 0.80 of the raw limit instead of 0.91, and refusals after 1.9 s instead of 0.1 s at
    5 times the capacity.  Not lower than needed: at a nice value of 10, refusals at ten times the
    capacity once kept both cores so busy that the model had a tenth of them.
    """
    if niceness and sys.platform == "linux":
        me = threading.get_native_id()
        current = os.getpriority(os.PRIO_PROCESS, me)
        os.setpriority(os.PRIO_PROCESS, me, max(niceness, current))


def _is_unfinished(entry: Entry, outcome: Outcome | Exception) -> bool:
    is_wanted = entry.request.locate is not None
    return is_wanted and isinstance(outcome, Outcome) and outcome.features is not None


def _outcome(
    entry: Entry, result: Row | Exception, micro_batch: MicroBatch, start_s: float, end_s: float
) -> Outcome | Exception:
    if not isinstance(result, Row):
        return result
    assert entry.input is not None
    queue_ms = (start_s - entry.arrival_s) * 1000 - entry.input.decode_ms
    is_asked = entry.request.with_features
    return Outcome(
        confidences=result.confidences,
        # A copy, so that the features of the whole micro-batch do not wait for one image.
        features=None if result.features is None or not is_asked else result.features.copy(),
        input=entry.input,
        queue_ms=max(0.0, queue_ms),
        inference_ms=(end_s - start_s) * 1000,
        batch_size=len(micro_batch.entries),
        close_reason=micro_batch.reason,
        raw_confidences=result.raw_confidences,
    )
