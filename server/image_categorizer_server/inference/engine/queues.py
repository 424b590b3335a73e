"""Which of the waiting images goes next.

    lane     INTERACTIVE before BATCH; while both wait, BATCH gets every n-th turn, a set share
    tenant   in turn, whoever was served least (start-time fair queueing: Goyal, Vin & Cheng 1997)
    image    the earliest deadline first

Plain data: no threads, no clock.  Whoever shares a queue between threads guards it.
"""

import heapq
import itertools
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from image_categorizer_server.domain.classification import Lane

# Departed tenants' turns are forgotten once there are so many of them.
MOST_REMEMBERED = 1024


class Waiting(Protocol):
    """What the queues know of an image."""

    @property
    def lane(self) -> Lane:
        """The queue it waits in."""
        ...

    @property
    def tenant_id(self) -> str:
        """Whose it is."""
        ...

    @property
    def deadline_s(self) -> float:
        """When the answer is worth nothing any more, by any one clock."""
        ...


T = TypeVar("T", bound=Waiting)


class FairQueue(Generic[T]):
    """Images of one lane."""

    def __init__(self) -> None:
        self._by_tenant: dict[str, list[tuple[float, int, T]]] = {}
        self._turns: list[tuple[float, int, str]] = []
        self._next_turn: dict[str, float] = {}
        self._turn = 0.0
        self._numbers = itertools.count()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        return (entry for heap in self._by_tenant.values() for _, _, entry in heap)

    @property
    def tenant_count(self) -> int:
        """How many tenants have something waiting."""
        return len(self._by_tenant)

    def push(self, entry: T) -> None:
        """Adds an image."""
        number = next(self._numbers)
        heap = self._by_tenant.get(entry.tenant_id)
        if heap is None:
            heap = self._by_tenant[entry.tenant_id] = []
            # Nobody gathers turns by staying away, nor jumps the queue by coming back.
            turn = max(self._turn, self._next_turn.pop(entry.tenant_id, 0.0))
            heapq.heappush(self._turns, (turn, number, entry.tenant_id))
        heapq.heappush(heap, (entry.deadline_s, number, entry))
        self._length += 1

    def pop(self) -> T:
        """Takes the next image out.

        Raises:
            IndexError: nothing waits.
        """
        self._turn, _, tenant_id = heapq.heappop(self._turns)
        heap = self._by_tenant[tenant_id]
        entry = heapq.heappop(heap)[2]
        self._length -= 1
        if heap:
            heapq.heappush(self._turns, (self._turn + 1, next(self._numbers), tenant_id))
        else:
            del self._by_tenant[tenant_id]
            self._remember(tenant_id)
        return entry

    def _remember(self, tenant_id: str) -> None:
        self._next_turn[tenant_id] = self._turn + 1
        if len(self._next_turn) > MOST_REMEMBERED:
            self._next_turn = {t: turn for t, turn in self._next_turn.items() if turn > self._turn}


class LaneQueue(Generic[T]):
    """Images of both lanes."""

    def __init__(self, lane_share: float) -> None:
        """Makes an empty queue.

        Args:
            lane_share: of the turns while both lanes wait, what BATCH gets; in [0, 1].
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

    def pop(self) -> T:
        """Takes the next image out.

        Raises:
            IndexError: nothing waits.
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
