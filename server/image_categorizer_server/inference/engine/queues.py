"""Queues: the order in which waiting images are served.

    lane     INTERACTIVE before BATCH; while both wait, BATCH gets a set share
    tenant   the tenant served least goes first (start-time fair queueing: Goyal, Vin & Cheng 1997)
    image    the earliest deadline goes first

The queues have no threads and no clock.  A user that shares one between threads has to lock it.
"""

import heapq
import itertools
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from image_categorizer_server.domain.classification import Lane

# Finish times of tenants without waiting images are kept up to this number.
MAX_REMEMBERED = 1024


class Waiting(Protocol):
    """An image as the queues see it."""

    @property
    def lane(self) -> Lane:
        """The queue that it waits in."""
        ...

    @property
    def tenant_id(self) -> str:
        """The tenant that sent it."""
        ...

    @property
    def deadline_s(self) -> float:
        """The time after which the answer is useless, on any one clock."""
        ...


T = TypeVar("T", bound=Waiting)


class FairQueue(Generic[T]):
    """The images of one lane.

    Virtual time counts the images served per tenant: each image of a tenant starts where the one
    before it ended, and the tenant with the earliest start goes first.
    """

    def __init__(self) -> None:
        self._by_tenant: dict[str, list[tuple[float, int, T]]] = {}
        self._starts: list[tuple[float, int, str]] = []
        """Heap of virtual start times, one for each tenant with waiting images."""
        self._ends: dict[str, float] = {}
        """Virtual end times of tenants without waiting images."""
        self._virtual_time = 0.0
        self._numbers = itertools.count()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        return (entry for heap in self._by_tenant.values() for _, _, entry in heap)

    @property
    def tenant_count(self) -> int:
        """The number of tenants with waiting images."""
        return len(self._by_tenant)

    def push(self, entry: T) -> None:
        """Adds an image."""
        number = next(self._numbers)
        heap = self._by_tenant.get(entry.tenant_id)
        if heap is None:
            heap = self._by_tenant[entry.tenant_id] = []
            # An absent tenant saves up nothing, and does not get ahead by coming back.
            start = max(self._virtual_time, self._ends.pop(entry.tenant_id, 0.0))
            heapq.heappush(self._starts, (start, number, entry.tenant_id))
        heapq.heappush(heap, (entry.deadline_s, number, entry))
        self._length += 1

    def pop(self) -> T:
        """Removes and returns the next image.

        Raises:
            IndexError: the queue is empty.
        """
        self._virtual_time, _, tenant_id = heapq.heappop(self._starts)
        heap = self._by_tenant[tenant_id]
        entry = heapq.heappop(heap)[2]
        self._length -= 1
        end = self._virtual_time + 1
        if heap:
            heapq.heappush(self._starts, (end, next(self._numbers), tenant_id))
        else:
            del self._by_tenant[tenant_id]
            self._remember(tenant_id, end)
        return entry

    def remove(self, entry: T) -> None:
        """Removes an image that waits.

        Raises:
            KeyError: its tenant has no waiting images.
            StopIteration: it does not wait.
        """
        heap = self._by_tenant[entry.tenant_id]
        at = next(index for index, (_, _, other) in enumerate(heap) if other is entry)
        heap[at] = heap[-1]
        heap.pop()
        self._length -= 1
        if heap:
            heapq.heapify(heap)
            return
        del self._by_tenant[entry.tenant_id]
        start = next(start for start in self._starts if start[2] == entry.tenant_id)
        self._starts.remove(start)
        heapq.heapify(self._starts)
        self._remember(entry.tenant_id, start[0])  # the image was not served

    def _remember(self, tenant_id: str, end: float) -> None:
        self._ends[tenant_id] = end
        if len(self._ends) > MAX_REMEMBERED:
            # Ends that have passed no longer delay their tenants.
            self._ends = {t: e for t, e in self._ends.items() if e > self._virtual_time}


class LaneQueue(Generic[T]):
    """The images of both lanes."""

    def __init__(self, lane_share: float) -> None:
        """Makes an empty queue.

        Args:
            lane_share: share of the images taken from lane BATCH while both lanes wait, in [0, 1].
        """
        self._lane_share = lane_share
        self._batch_credit = 0.0
        self._lanes: dict[Lane, FairQueue[T]] = {lane: FairQueue() for lane in Lane}

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def __iter__(self) -> Iterator[T]:
        return itertools.chain.from_iterable(self._lanes.values())

    def lane(self, lane: Lane) -> FairQueue[T]:
        """Returns the images of one lane."""
        return self._lanes[lane]

    def push(self, entry: T) -> None:
        """Adds an image."""
        self._lanes[entry.lane].push(entry)

    def remove(self, entry: T) -> None:
        """Removes an image that waits; see `FairQueue.remove`."""
        self._lanes[entry.lane].remove(entry)

    def pop(self) -> T:
        """Removes and returns the next image.

        Raises:
            IndexError: the queue is empty.
        """
        interactive, batch = self._lanes[Lane.INTERACTIVE], self._lanes[Lane.BATCH]
        if not batch:
            return interactive.pop()
        if not interactive:
            return batch.pop()
        self._batch_credit += self._lane_share
        if self._batch_credit >= 1:
            self._batch_credit -= 1
            return batch.pop()
        return interactive.pop()
