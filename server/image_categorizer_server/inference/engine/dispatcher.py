"""Decides what a thread of the micro-batcher does next, and when a micro-batch leaves.

A micro-batch leaves as soon as a runner is free, with its share of what is decoded then (`IDLE`),
or with the largest size if there are as many (`FULL`).  A larger one that would make its most
urgent image late leaves smaller (`DEADLINE`); in a backlog it drops that image, for small ones
would make all those behind it late.  Where `max_delay_s` is set, a micro-batch that is not full
waits as long for company (`DELAY`), unless an image would be late by it (`DEADLINE`).

Lane BATCH alone fills a micro-batch with the least size that is about as efficient as the largest,
in decoding too: whoever comes meanwhile in lane INTERACTIVE waits for no more than that.

No threads and no locks of its own: `MicroBatcher` guards it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from image_categorizer_server.domain.classification import BatchCloseReason, Lane
from image_categorizer_server.inference.engine.admission import Bounds
from image_categorizer_server.inference.engine.entry import Batch, Entry, Request
from image_categorizer_server.inference.engine.guard import Guard
from image_categorizer_server.inference.engine.latency import LatencyTable
from image_categorizer_server.inference.engine.queues import LaneQueue


@dataclass(frozen=True, slots=True)
class Policy:
    """How one model is fed."""

    runners: int
    decoders: int
    """Threads that only decode; 0 where runners do."""
    niceness: int
    """By how much threads give way to the event loop; see nice(2)."""
    max_delay_s: float
    hold_s: float
    """Longest that an outcome waits for others to be delivered with, under load."""
    lane_share: float
    bounds: Bounds


class Dispatcher:
    """The images that wait for one model, undecoded and decoded."""

    def __init__(
        self, guard: Guard, table: LatencyTable, policy: Policy, drop: Callable[[Entry, str], None]
    ) -> None:
        """Starts with nothing waiting.

        Args:
            guard: knows the largest micro-batch.
            table: knows how long a micro-batch takes.
            policy: of the model.
            drop: told of an image that is not worth going on with, and why.
        """
        self._guard = guard
        self._table = table
        self._policy = policy
        self._drop = drop
        self.undecoded: LaneQueue[Entry] = LaneQueue(policy.lane_share)
        self.decoded: LaneQueue[Entry] = LaneQueue(policy.lane_share)
        self.idle_runners = 0

    def next(self, *, is_runner: bool) -> tuple[Entry | Batch | None, float | None]:
        """Returns an image to decode or a micro-batch to run; else None.

        The second value is then how many seconds to wait before asking again; None: until told.
        """
        wait_s: float | None = None
        if is_runner:
            enough = 1 if self._policy.decoders else self._full_size(self.undecoded)
            if len(self.decoded) >= enough or not self.undecoded:
                batch, wait_s = self._close()
                if batch:
                    return batch, None
        if not is_runner or not self._policy.decoders:
            while self.undecoded:
                entry = self.undecoded.pop()
                if self._is_worth_it(entry):
                    return entry, None
        if is_runner and self.decoded and wait_s is None:  # all undecoded ones were dropped
            return self._close()
        return None, wait_s

    @property
    def waiting(self) -> int:
        """How many images no runner has taken yet."""
        return len(self.undecoded) + len(self.decoded)

    def count_before(self, request: Request) -> int:
        """Returns how many waiting images will be answered before this request."""
        count = 0
        for queue in (self.undecoded, self.decoded):
            lane = queue.lane(request.lane)
            earlier = sum(entry.deadline_s <= request.deadline_s for entry in lane)
            own = sum(entry.tenant_id == request.tenant_id for entry in lane)
            count += min(earlier, (own + 1) * lane.tenant_count)
            if request.lane is Lane.BATCH:
                count += len(queue.lane(Lane.INTERACTIVE))
        return count

    def clear(self) -> list[Entry]:
        """Takes everything out."""
        return [queue.pop() for queue in (self.undecoded, self.decoded) for _ in [*queue]]

    def _close(self) -> tuple[Batch | None, float | None]:
        """Returns the micro-batch that leaves now, or how long it waits for company."""
        most = self._full_size(self.decoded)
        waiting = len(self.decoded)
        if not waiting:
            return None, None
        # A lone image that finds a free runner did not wait for others, whatever the largest size.
        is_full = waiting >= max(most, 2)
        reason = BatchCloseReason.FULL if is_full else BatchCloseReason.IDLE
        now_s = time.monotonic()
        if self._policy.max_delay_s and waiting < most:
            since_s = min(entry.arrival_s for entry in self.decoded)
            urgent_s = min(entry.deadline_s for entry in self.decoded)
            delay_s = since_s + self._policy.max_delay_s - now_s
            slack_s = urgent_s - self._table.estimate_s(waiting + 1) - now_s
            if min(delay_s, slack_s) > 0:
                return None, min(delay_s, slack_s)
            reason = BatchCloseReason.DELAY if delay_s <= 0 else BatchCloseReason.DEADLINE
        share = min(most, -(-waiting // (1 + self.idle_runners)))
        entries = self._take(share)
        if not entries:
            return None, None
        return self._in_time(entries, reason, now_s), None

    def _in_time(self, entries: list[Entry], reason: BatchCloseReason, now_s: float) -> Batch:
        """Returns the micro-batch, smaller where its most urgent image would else be late."""
        slack_s = min(entry.deadline_s for entry in entries) - now_s
        fitting = self._table.largest_within(slack_s, len(entries))
        # What cannot be in time even alone leaves with the others: nobody gains by its lateness.
        if fitting == len(entries) or self._table.estimate_s(1) > slack_s:
            return Batch(entries, reason)
        for entry in entries[fitting:]:
            self.decoded.push(entry)
        return Batch(entries[:fitting], BatchCloseReason.DEADLINE)

    def _full_size(self, queue: LaneQueue[Entry]) -> int:
        """Returns how many of what waits there make a micro-batch full."""
        most = self._guard.max_size
        if queue.lane(Lane.INTERACTIVE):
            return most
        return self._table.least_efficient(most)

    def _take(self, most: int) -> list[Entry]:
        entries: list[Entry] = []
        least_s = self._least_s()
        # Beyond it, images of lane BATCH come only with those of INTERACTIVE, by their share.
        while self.decoded and len(entries) < min(most, self._full_size(self.decoded)):
            entry = self.decoded.pop()
            if self._is_worth_it(entry, least_s):
                entries.append(entry)
        return entries

    def _least_s(self) -> float:
        """Returns how long the shortest call takes that is worth its turn.

        While more wait than one micro-batch holds, a smaller one for the sake of its most urgent
        image would make those behind it late; and theirs, in turn, smaller still.
        """
        most = self._guard.max_size
        if self.waiting <= most:
            return 0.0
        return self._table.estimate_s(self._table.least_efficient(most))

    def _is_worth_it(self, entry: Entry, least_s: float = 0.0) -> bool:
        if entry.is_abandoned:
            self._drop(entry, "CANCELLED")
            return False
        if entry.deadline_s <= time.monotonic() + least_s:
            self._drop(entry, "DEADLINE_EXCEEDED")
            return False
        return True
