"""Tasks with an owner: the failure of a task is always noticed.

The exception of an asyncio task is lost unless something awaits the task. So every task has an
owner. A `TaskOwner` holds background tasks, logs those that fail, and raises an error in `check`.
`run_until` and `uncancelled` await what they start; the caller of `detached` takes the outcome. If
the failure of one task should cancel the others, use an `asyncio.TaskGroup`.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Collection, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
Result = TypeVar("Result")
CANCEL_AGAIN_AFTER_S = 0.1


class TaskOwner:
    """Owns background tasks for as long as its block runs.

    Leaving the block cancels the tasks and waits until they have ended.
    """

    def __init__(self, on_failure: Callable[[Exception], None] | None = None) -> None:
        """Makes an owner without tasks.

        Args:
            on_failure: is called with the exception of each task that dies, in the event loop.
        """
        self._on_failure = on_failure
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failed: dict[str, None] = {}  # names, in the order of their deaths

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, Result], name: str) -> asyncio.Task[Result]:
        """Starts a task and keeps it until it ends.

        Args:
            work: what it does.
            name: what the log and `check` call it, such as "health reporter".
        """
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def check(self) -> None:
        """Passes while no task has died.

        Raises:
            DependencyDown: names the tasks that died.
        """
        if self._failed:
            raise DependencyDown(f"the {', '.join(self._failed)} stopped working")

    async def wait(self) -> None:
        """Waits until every task has ended, also those that start meanwhile."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def close(self) -> None:
        """Cancels every task and waits until all have ended; idempotent."""
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(set(self._tasks))

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            return
        log.error("a task died", task=task.get_name(), exc_info=error)
        self._failed[task.get_name()] = None
        if self._on_failure and isinstance(error, Exception):
            self._on_failure(error)


async def run_until(stop: asyncio.Event, work: Coroutine[Any, Any, Result]) -> Result | None:
    """Returns what `work` returns; cancels it and returns None if `stop` is set first.

    Raises:
        Exception: whatever `work` raised.
    """
    loop = asyncio.get_running_loop()
    working, stopping = loop.create_task(work), loop.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        return None
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)


def stop_on_signals(before_exit: Callable[[], None] | None = None) -> asyncio.Event:
    """Returns an event that SIGTERM or SIGINT sets. A second signal ends the process at once.

    Args:
        before_exit: runs before a second signal ends the process, for example to kill children.
    """
    stop = asyncio.Event()

    def stopped() -> None:
        if stop.is_set():
            if before_exit:
                before_exit()
            os._exit(1)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped)
    return stop


async def cancel_until_ended(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancels tasks, and cancels them again, until all have ended. Their exceptions are discarded.

    For tasks that run arq or redis-py: both can swallow a cancellation. Do not use it for tasks
    that clean up when cancelled: the second cancellation interrupts the clean-up.
    """
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        done, running = await asyncio.wait(running, timeout=CANCEL_AGAIN_AFTER_S)
        for task in done:
            if not task.cancelled():
                task.exception()  # marks it as retrieved


def detached(work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
    """Starts work whose outcome the caller takes, for example after waiting for several tasks.

    The caller may abandon work that ends by itself: a read from gRPC, which cannot be cancelled,
    ends with its call. An exception that nobody takes is discarded.
    """
    task = asyncio.get_running_loop().create_task(work)
    _detached.add(task)
    task.add_done_callback(_taken)
    return task


# The event loop keeps only weak references to tasks.
_detached: set[asyncio.Task[Any]] = set()


def _taken(task: asyncio.Task[Any]) -> None:
    _detached.discard(task)
    if not task.cancelled():
        task.exception()  # marks it as retrieved


async def uncancelled(work: Coroutine[Any, Any, Result]) -> Result:
    """Runs `work` to its end even if the caller is cancelled meanwhile; raises that afterwards.

    For work that must not be left half done, such as returning a lease. Give `work` a timeout:
    nothing else ends it.

    Raises:
        CancelledError: the caller was cancelled; `work` has ended.
        Exception: whatever `work` raised.
    """
    task = asyncio.get_running_loop().create_task(work)
    cancellation: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancellation = error
        except Exception:  # noqa: BLE001 - raised below, once
            break
    if cancellation is not None:
        if not task.cancelled() and (failure := task.exception()) is not None:
            log.error("work that outlived its caller failed", exc_info=failure)
        raise cancellation
    return task.result()
