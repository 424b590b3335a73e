"""Waiting in tests: the only place where a test sleeps."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from inspect import isawaitable

WITHIN_S = 20.0
INTERVAL_S = 0.02


async def eventually(
    condition: Callable[[], object | Awaitable[object]],
    within_s: float = WITHIN_S,
    interval_s: float = INTERVAL_S,
) -> None:
    """Waits until a condition holds; fails where it does not in time.

    Args:
        condition: is called again and again; may be a coroutine function.
        within_s: the longest wait.
        interval_s: the pause between two looks.
    """
    end_s = time.monotonic() + within_s
    while not await _result(condition):
        assert time.monotonic() < end_s, f"did not become true within {within_s:g} s"
        await asyncio.sleep(interval_s)


async def stays(
    condition: Callable[[], object | Awaitable[object]],
    for_s: float,
    interval_s: float = INTERVAL_S,
) -> None:
    """Watches a condition that must hold for `for_s` seconds; fails as soon as it does not."""
    end_s = time.monotonic() + for_s
    while True:
        assert await _result(condition), "did not stay true"
        if time.monotonic() >= end_s:
            return
        await asyncio.sleep(interval_s)


async def elapsed(seconds: float) -> None:
    """Lets time pass: for leases to expire, for intervals of a schedule."""
    await asyncio.sleep(seconds)


def pause(seconds: float) -> None:
    """Lets time pass, in tests without an event loop."""
    time.sleep(seconds)


def wait_until(
    condition: Callable[[], object], within_s: float = WITHIN_S, interval_s: float = INTERVAL_S
) -> None:
    """Waits until a condition holds, in tests without an event loop; fails where it does not."""
    end_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end_s, f"did not become true within {within_s:g} s"
        time.sleep(interval_s)


async def _result(condition: Callable[[], object | Awaitable[object]]) -> object:
    result = condition()
    return await result if isawaitable(result) else result
