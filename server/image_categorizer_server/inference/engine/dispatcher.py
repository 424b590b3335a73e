"""Decides what a thread of the micro-batcher does next, and when a micro-batch closes.

    IDLE       a runner is free: the micro-batch takes the runner's share of the decoded images
    FULL       there are enough decoded images for the largest size
    DEADLINE   a larger micro-batch would make its most urgent image late, so it closes smaller
    DELAY      `max_delay_s` has passed; a micro-batch that is not full waits that long for more
               images, unless one of them would be late

In a backlog an urgent image is dropped instead: smaller micro-batches would delay all images behind
it.

Images of lane BATCH alone make a micro-batch of the smallest efficient size, in decoding too.  An
image that arrives in lane INTERACTIVE meanwhile waits no longer than that.

Images that the model has answered, but whose boxes or heat maps are still to be made, go first in
either lane: they have had their lane's turn when they were decoded, and they hold the most memory.
So do those whose whole picture the model is still to see, for boxes: each takes a call of its own,
because their sizes differ.

The dispatcher has no threads and no locks; `MicroBatcher` guards it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from image_categorizer_server.domain.classification import BatchCloseReason, Lane
from image_categorizer_server.inference.engine.admission import Bounds
from image_categorizer_server.inference.engine.entry import Entry, MicroBatch, Request
from image_categorizer_server.inference.engine.guard import Guard
from image_categorizer_server.inference.engine.latency import LatencyTable
from image_categorizer_server.inference.engine.queues import LaneQueue


@dataclass(frozen=True, slots=True)
class Policy:
    """How the micro-batcher serves one model."""

    runners: int
    decoders: int
    """Number of threads that only decode; 0 if the runners decode."""
    niceness: int
    """Nice value of the threads, so that the event loop goes first; see nice(2)."""
    max_delay_s: float
    """Maximum time that a micro-batch waits for more images while a runner is free."""
    hold_s: float
    """Maximum time that an outcome is held under load; see `Delivery`."""
    lane_share: float
    """Share of the images taken from lane BATCH while both lanes wait."""
    bounds: Bounds


class Dispatcher:
    """The images that wait for one model: to be decoded, classified or located."""

    def __init__(
        self, guard: Guard, table: LatencyTable, policy: Policy, drop: Callable[[Entry, str], None]
    ) -> None:
        """Starts with empty queues.

        Args:
            guard: has the size of the largest micro-batch.
            table: estimates the time of a model call.
            policy: of the model.
            drop: called with each image that is abandoned or late, and the reason.
        """
        self._guard = guard
        self._table = table
        self._policy = policy
        self._drop = drop
        self.undecoded: LaneQueue[Entry] = LaneQueue(policy.lane_share)
        self.decoded: LaneQueue[Entry] = LaneQueue(policy.lane_share)
        self.unseen: LaneQueue[Entry] = LaneQueue(policy.lane_share)
        self.answered: LaneQueue[Entry] = LaneQueue(policy.lane_share)
        self.idle_runners = 0

    def next(self, *, is_runner: bool) -> tuple[Entry | MicroBatch | None, float | None]:
        """Returns an image to see whole, locate or decode, or a micro-batch, if there is any.

        Returns:
            The work and None; or None and the seconds to wait before the next call; or None twice:
            there is no work until an image arrives.
        """
        wait_s: float | None = None
        prepares = not is_runner or not self._policy.decoders
        if prepares and (entry := self._next_of(self.answered)):
            return entry, None
        if is_runner and (entry := self._next_of(self.unseen)):
            return entry, None
        if is_runner:
            enough = 1 if self._policy.decoders else self._full_size(self.undecoded)
            if len(self.decoded) >= enough or not self.undecoded:
                micro_batch, wait_s = self._close()
                if micro_batch:
                    return micro_batch, None
        if prepares and (entry := self._next_of(self.undecoded)):
            return entry, None
        if is_runner and self.decoded and wait_s is None:  # all undecoded ones were dropped
            return self._close()
        return None, wait_s

    def put(self, queue: LaneQueue[Entry], entry: Entry) -> None:
        """Adds an image to one of the queues."""
        queue.push(entry)
        entry.queue = queue

    def _pop(self, queue: LaneQueue[Entry]) -> Entry:
        entry = queue.pop()
        entry.queue = None
        return entry

    def _next_of(self, queue: LaneQueue[Entry]) -> Entry | None:
        """Removes and returns the next image that is not useless; None if there is none."""
        while queue:
            entry = self._pop(queue)
            if self._is_useful(entry):
                return entry
        return None

    @property
    def waiting(self) -> int:
        """The number of images that no runner has taken yet."""
        return len(self.undecoded) + len(self.decoded)

    @property
    def has_more(self) -> bool:
        """Whether another runner has work too."""
        is_located_here = not self._policy.decoders
        return bool(self.decoded or self.unseen or (self.answered and is_located_here))

    def count_before(self, request: Request) -> int:
        """Returns the number of waiting images that will be answered before this request."""
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
        """Removes and returns all images that the model is still to see."""
        queues = self.undecoded, self.decoded, self.unseen
        return [self._pop(queue) for queue in queues for _ in [*queue]]

    def _close(self) -> tuple[MicroBatch | None, float | None]:
        """Returns the micro-batch that closes now, or how long it waits for more images."""
        full_size = self._full_size(self.decoded)
        waiting = len(self.decoded)
        if not waiting:
            return None, None
        # A single image that finds a free runner did not wait for others, even if the size is 1.
        is_full = waiting >= max(full_size, 2)
        reason = BatchCloseReason.FULL if is_full else BatchCloseReason.IDLE
        now_s = time.monotonic()
        if self._policy.max_delay_s and waiting < full_size:
            since_s = min(entry.arrival_s for entry in self.decoded)
            urgent_s = min(entry.deadline_s for entry in self.decoded)
            delay_s = since_s + self._policy.max_delay_s - now_s
            slack_s = urgent_s - self._table.estimate_s(waiting + 1) - now_s
            if min(delay_s, slack_s) > 0:
                return None, min(delay_s, slack_s)
            reason = BatchCloseReason.DELAY if delay_s <= 0 else BatchCloseReason.DEADLINE
        share = min(full_size, -(-waiting // (1 + self.idle_runners)))
        entries = self._take(share)
        if not entries:
            return None, None
        # Smaller if the most urgent image would be late otherwise, unless that image would be late
        # even by itself: then a smaller micro-batch helps nobody.
        slack_s = min(entry.deadline_s for entry in entries) - now_s
        fitting = self._table.largest_within(slack_s, len(entries))
        if fitting == len(entries) or self._table.estimate_s(1) > slack_s:
            return MicroBatch(entries, reason), None
        for entry in entries[fitting:]:
            self.put(self.decoded, entry)
        return MicroBatch(entries[:fitting], BatchCloseReason.DEADLINE), None

    def _full_size(self, queue: LaneQueue[Entry]) -> int:
        """Returns the number of images in this queue that make a full micro-batch."""
        max_size = self._guard.max_size
        if queue.lane(Lane.INTERACTIVE):
            return max_size
        return self._table.smallest_efficient(max_size)

    def _take(self, count: int) -> list[Entry]:
        """Removes up to `count` images from the decoded ones, and drops those that are useless."""
        entries: list[Entry] = []
        min_call_s = 0.0
        if self.waiting > self._guard.max_size:
            # A backlog: a smaller micro-batch for its most urgent image would delay the images
            # behind it, whose micro-batches would become smaller in turn.
            efficient = self._table.smallest_efficient(self._guard.max_size)
            min_call_s = self._table.estimate_s(efficient)
        # The full size is computed for each image: once the images of INTERACTIVE are taken, those
        # of BATCH stop at the efficient size.
        while self.decoded and len(entries) < min(count, self._full_size(self.decoded)):
            entry = self._pop(self.decoded)
            if self._is_useful(entry, min_call_s):
                entries.append(entry)
        return entries

    def _is_useful(self, entry: Entry, call_s: float = 0.0) -> bool:
        """Returns whether a caller waits and a call of `call_s` can be in time; drops others."""
        if entry.is_abandoned:
            self._drop(entry, "CANCELLED")
            return False
        if entry.deadline_s <= time.monotonic() + call_s:
            self._drop(entry, "DEADLINE_EXCEEDED")
            return False
        return True
