"""Counts against limits: in Redis for all servers together, in memory while Redis is down.

The script is ours because no kept library does what it does: `limits` takes one limit at a time,
has no bursts, and its moving window reads the clock of the caller.  Here one round trip takes
from all limits of a call, or from none, by the clock of Redis.

    take ─┐
    take ─┼─▶ waiting ─▶ one call of the script ─▶ one decision for each
    take ─┘     └── meanwhile, the next ones gather

Under load a round trip serves many requests, so a request costs less than a round trip.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from cachetools import LRUCache

from image_categorizer_server import clock
from image_categorizer_server.domain.limit import (
    DAY_S,
    Charge,
    DailyQuota,
    Decision,
    Rate,
    Standing,
)
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.stores.redis import RedisClient
from image_categorizer_server.tasks import TaskOwner

SCRIPT = (Path(__file__).parent / "limiter.lua").read_text()
PREFIX = "limit:"
MAX_AT_ONCE = 64
"""Requests that one call of the script serves: Redis does nothing else meanwhile."""
MAX_LOCAL = 10_000
"""Limits that a process counts by itself."""
MAX_PROMISE_S = 10.0
PROMISE_SPACING = 1.1  # as in the script
MICROSECONDS = 1e6
Charges = Sequence[Charge]


class RedisLimiter:
    """Counts in Redis."""

    def __init__(self, redis: RedisClient, timeout_s: float, tasks: TaskOwner) -> None:
        """Configures the limiter.

        Args:
            redis: where it counts.
            timeout_s: time limit of one round trip, in seconds.
            tasks: owns the task that makes round trips.
        """
        self._redis = redis
        self._timeout_s = timeout_s
        self._tasks = tasks
        # It loads the script again if Redis has forgotten it.
        self._script = redis.commands.register_script(SCRIPT)
        self._waiting: list[tuple[Charges, asyncio.Future[Decision]]] = []
        self._sending: asyncio.Task[None] | None = None

    async def take(self, charges: Charges) -> Decision:
        """Takes from all limits, or from none.

        Raises:
            DependencyDown: Redis does not answer in time.
        """
        return await self._put(charges)

    def give_back(self, charges: Charges) -> None:
        """Gives back what `take` took, with the next round trip; it is lost if Redis is down."""
        returned = [Charge(charge.limit, -charge.cost) for charge in charges]
        # The exception of a future that nobody awaits is logged as a bug.
        self._put(returned).add_done_callback(lambda future: future.exception())

    def _put(self, charges: Charges) -> asyncio.Future[Decision]:
        future: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        self._waiting.append((charges, future))
        if self._sending is None or self._sending.done():
            self._sending = self._tasks.start(self._send_all(), "round trips of the limiter")
        return future

    async def _send_all(self) -> None:
        while self._waiting:
            sent, self._waiting = self._waiting[:MAX_AT_ONCE], self._waiting[MAX_AT_ONCE:]
            sent = [(charges, future) for charges, future in sent if not future.done()]
            error = DependencyDown("the limits cannot be checked at present")
            decisions: list[Decision] = []
            try:
                if sent:
                    decisions = await self._ask([charges for charges, _ in sent])
            except DependencyDown as down:
                error = down
            finally:  # also if this task is cancelled
                for (_, future), decision in zip_longest(sent, decisions):
                    if not future.done() and decision is not None:
                        future.set_result(decision)
                    elif not future.done():
                        future.set_exception(error)

    async def _ask(self, asked: list[Charges]) -> list[Decision]:
        keys = [f"{PREFIX}{charge.limit.key}" for charges in asked for charge in charges]
        arguments: list[str | int | float] = [len(asked)]
        for charges in asked:
            arguments.append(len(charges))
            for charge in charges:
                arguments += _arguments(charge)
        numbers = iter(
            await self._redis.run(lambda: self._script(keys, arguments), self._timeout_s)
        )
        return [_decision(charges, numbers) for charges in asked]


def _arguments(charge: Charge) -> list[str | int | float]:
    limit = charge.limit
    if isinstance(limit, Rate):
        return ["r", MICROSECONDS / limit.per_s, limit.burst, charge.cost]
    return ["d", limit.quota, charge.cost]


def _decision(charges: Charges, numbers: Iterator[int]) -> Decision:
    refused_by, retry_ms = next(numbers), next(numbers)
    standings = tuple(
        Standing(charge.limit, next(numbers), next(numbers) / 1000) for charge in charges
    )
    if not refused_by:
        return Decision(standings)
    return Decision(standings, charges[refused_by - 1].limit, retry_ms / 1000)


@dataclass(slots=True)
class _Count:
    """The state of one limit; see `limiter.lua`."""

    whole_s: float = 0.0
    """Of a rate: when its burst is whole again, on the clock of `time.monotonic`."""
    promised_s: float = 0.0
    used: int = 0
    """Of a daily quota."""
    day: int = 0


class LocalLimiter:
    """Counts in memory: this process's share of each limit, by the rules of `limiter.lua`."""

    def __init__(self, servers: int) -> None:
        """Starts with nothing used.

        Args:
            servers: by what limits are divided.
        """
        self._servers = servers
        self._counts: LRUCache[str, _Count] = LRUCache(MAX_LOCAL)

    def take(self, charges: Charges) -> Decision:
        """Takes from all limits, or from none."""
        shares = [Charge(self._share_of(charge.limit), charge.cost) for charge in charges]
        counts = [self._count_of(charge.limit.key) for charge in shares]
        pairs = list(zip(shares, counts, strict=True))
        waits_s = [_wait_s(charge, count) for charge, count in pairs]
        refused_by, retry_after_s = None, max(waits_s, default=0.0)
        if retry_after_s > 0:
            charge, count = pairs[waits_s.index(retry_after_s)]
            refused_by, retry_after_s = charge.limit, _promise_s(charge, count, retry_after_s)
        else:
            for charge, count in pairs:
                _take(charge, count)
        standings = tuple(_standing(charge, count) for charge, count in pairs)
        return Decision(standings, refused_by, max(0.0, retry_after_s))

    def _share_of(self, limit: Rate | DailyQuota) -> Rate | DailyQuota:
        if isinstance(limit, Rate):
            burst = max(1, limit.burst // self._servers)
            return Rate(limit.name, limit.key, limit.per_s / self._servers, burst)
        return DailyQuota(limit.name, limit.key, limit.quota // self._servers)

    def _count_of(self, key: str) -> _Count:
        count = self._counts.get(key)
        if count is None:
            count = self._counts[key] = _Count()
        today = int(clock.now().timestamp()) // DAY_S
        if count.day != today:
            count.day, count.used = today, 0
        count.whole_s = max(count.whole_s, time.monotonic())
        return count


def _until_midnight_s() -> float:
    return DAY_S - clock.now().timestamp() % DAY_S


def _wait_s(charge: Charge, count: _Count) -> float:
    limit = charge.limit
    if isinstance(limit, DailyQuota):
        is_used_up = charge.cost > 0 and count.used + charge.cost > limit.quota
        return _until_midnight_s() if is_used_up else 0.0
    needs = max(limit.burst, charge.cost) - charge.cost
    return count.whole_s - time.monotonic() - needs / limit.per_s


def _promise_s(charge: Charge, count: _Count, wait_s: float) -> float:
    limit = charge.limit
    if isinstance(limit, DailyQuota):
        return wait_s
    now_s = time.monotonic()
    at_s = max(now_s + wait_s, min(count.promised_s, now_s + wait_s + MAX_PROMISE_S))
    count.promised_s = at_s + PROMISE_SPACING * charge.cost / limit.per_s
    return at_s - now_s


def _take(charge: Charge, count: _Count) -> None:
    if isinstance(charge.limit, DailyQuota):
        count.used = max(0, count.used + charge.cost)
    else:
        count.whole_s += charge.cost / charge.limit.per_s


def _standing(charge: Charge, count: _Count) -> Standing:
    limit = charge.limit
    if isinstance(limit, DailyQuota):
        return Standing(limit, max(0, limit.quota - count.used), _until_midnight_s())
    reset_s = max(0.0, count.whole_s - time.monotonic())
    return Standing(limit, max(0, int(limit.burst - reset_s * limit.per_s + 1e-6)), reset_s)
