"""Tasks with an owner: the failure of a task is always noticed.

The exception of an asyncio task is lost unless something awaits the task. So every task has an
owner. A `TaskOwner` holds background tasks, logs those that fail, and raises an error in `check`.
`run_until` and `uncancelled` await what they start; the caller of `detached` takes the outcome. If
the failure of one task should cancel the others, use an `asyncio.TaskGroup`.

Nothing that stops waits for a task without a limit.  A library can swallow a cancellation, for
example by `asyncio.wait_for`, which in Python 3.11 returns as if nothing had happened if what it
waits for has just ended.  So tasks are cancelled again, and one that does not end even then is
named in the log and left.  `end_within` ends a process that still waits for something.
"""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from pathlib import Path
from types import CoroutineType, TracebackType
from typing import Any, Self, TypeVar

from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
Result = TypeVar("Result")
CLEAN_UP_S = 2.0
"""How long a cancelled task may clean up before it is cancelled again."""
CANCEL_AGAIN_AFTER_S = 0.1
GIVE_UP_AFTER_S = 2.0
"""For how long a task is cancelled again and again."""
END_S = 8.0
"""How long a process may take to end after it has waited as long as its settings allow. Supervisors
kill it after ten seconds, and cannot say what it waited for."""
KILL_S = 5.0
"""How long a process that was killed may take to end."""
MAX_SHOWN = 10


class TaskOwner:
    """Owns background tasks for as long as its block runs.

    Leaving the block ends the tasks; see `close`.
    """

    def __init__(
        self,
        on_failure: Callable[[Exception], None] | None = None,
        clean_up_s: float = CLEAN_UP_S,
    ) -> None:
        """Makes an owner without tasks.

        Args:
            on_failure: is called with the exception of each task that dies, in the event loop.
            clean_up_s: how long a task may take to end once it is cancelled. Then it is cancelled
                again, which interrupts its clean-up.
        """
        self._on_failure = on_failure
        self._clean_up_s = clean_up_s
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

    @property
    def names(self) -> list[str]:
        """The names of the tasks that have not ended."""
        return sorted(task.get_name() for task in self._tasks)

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

    async def wait(self, within_s: float | None = None) -> None:
        """Waits until every task has ended, also those that start meanwhile.

        Args:
            within_s: how long to wait, in seconds; None for as long as the tasks need.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._tasks:
                    await asyncio.wait(set(self._tasks))

    async def close(self) -> None:
        """Cancels every task, also those that start meanwhile; idempotent.

        Returns once all have ended, or have been given up; see `cancel_until_ended`.
        """
        given_up: set[asyncio.Task[Any]] = set()
        while running := self._tasks - given_up:
            given_up |= await cancel_until_ended(running, self._clean_up_s)

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


async def run_until(
    stop: asyncio.Event, work: Coroutine[Any, Any, Result], clean_up_s: float = CLEAN_UP_S
) -> Result | None:
    """Returns what `work` returns; cancels it and returns None if `stop` is set first.

    Args:
        stop: ends the work.
        work: what to do.
        clean_up_s: how long it may take to end once it is cancelled; see `TaskOwner`.

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
        await cancel_until_ended({working, stopping}, clean_up_s)


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


def end_within(seconds: float) -> None:
    """Ends the process, with status 1, if it has not ended by itself after `seconds`.

    For a process that stops, whatever it waits for: a thread that hangs on a dead disk would keep
    it alive for ever.
    """
    loop = asyncio.get_running_loop()

    def end() -> None:
        try:
            tasks = sorted(task.get_name() for task in asyncio.all_tasks(loop))
            threads = sorted(thread.name for thread in threading.enumerate() if not thread.daemon)
            log.error(
                "the process does not end, so it is ended",
                after_s=seconds,
                tasks=tasks[:MAX_SHOWN],
                threads=threads[:MAX_SHOWN],
            )
            sys.stderr.flush()
        finally:
            os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True  # does not keep alive a process that ends by itself
    timer.start()


async def cancel_until_ended(
    tasks: Collection[asyncio.Task[Any]], clean_up_s: float = CANCEL_AGAIN_AFTER_S
) -> set[asyncio.Task[Any]]:
    """Cancels tasks, and cancels them again, until all have ended. Discards their exceptions.

    Args:
        tasks: any, but not the current one.
        clean_up_s: how long they may take to end before they are cancelled a second time, which
            interrupts their clean-up. By default no time: arq and redis-py can swallow a
            cancellation.

    Returns:
        The tasks that do not end however often they are cancelled. The log names them.
    """
    running = set(tasks)
    pause_s, give_up_s = clean_up_s, time.monotonic() + clean_up_s + GIVE_UP_AFTER_S
    while running:
        for task in running:
            task.cancel()
        done, running = await asyncio.wait(running, timeout=pause_s)
        for task in done:
            if not task.cancelled():
                task.exception()  # marks it as retrieved
        pause_s = CANCEL_AGAIN_AFTER_S
        if time.monotonic() > give_up_s:
            break
    for task in running:
        log.error("a task does not end, so it is left", task=task.get_name(), place=_place_of(task))
    return running


def _place_of(task: asyncio.Task[Any]) -> str:
    """Returns where a task waits, such as `redis.py:61`."""
    waiting: object = task.get_coro()
    place = ""
    while isinstance(waiting, CoroutineType) and waiting.cr_frame:
        frame = waiting.cr_frame
        place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        waiting = waiting.cr_await
    return place


async def kill_process(process: asyncio.subprocess.Process) -> int:
    """Kills a child process, waits until it has ended, and returns its exit status.

    One that the kernel holds, on a dead disk, is named in the log and left.  So is one whose output
    a process that it started keeps open: asyncio waits for that too.
    """
    with suppress(ProcessLookupError):
        process.kill()
    try:
        async with asyncio.timeout(KILL_S):
            return await process.wait()
    except TimeoutError:
        log.warning("a killed process does not end, so it is left", pid=process.pid)
        return -signal.SIGKILL if process.returncode is None else process.returncode


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
