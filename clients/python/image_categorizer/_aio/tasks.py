"""The tasks of a stream, and who hears of their failures.  Threads need no twin of it."""

import asyncio
from collections.abc import Callable, Coroutine

CANCEL_AGAIN_AFTER_S = 1.0
MAX_CANCELLATIONS = 5


class Tasks:
    """Owns the tasks of one stream: a task that fails is reported at once."""

    def __init__(self, on_failure: Callable[[BaseException], None]) -> None:
        """Starts without tasks.

        Args:
            on_failure: called with the exception that ended a task.
        """
        self._on_failure = on_failure
        self._running: set[asyncio.Task[None]] = set()
        self._is_closing = False

    def start(self, work: Coroutine[object, object, None]) -> None:
        """Runs a coroutine beside the caller."""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Cancels the tasks, and waits until they have ended; leaves those that never do.

        They run code of the caller, which can swallow a cancellation: `asyncio.wait_for` of
        Python 3.11 does.  So they are cancelled again.
        """
        self._is_closing = True
        for _ in range(MAX_CANCELLATIONS):
            if not self._running:
                return
            for task in self._running:
                task.cancel()
            await asyncio.wait(set(self._running), timeout=CANCEL_AGAIN_AFTER_S)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if self._is_closing:
            if not task.cancelled():
                task.exception()  # marks it as retrieved
            return
        if task.cancelled():
            # grpc.aio cancels whoever reads from a call when its channel is closed.
            self._on_failure(RuntimeError("the client was closed while a stream was open"))
        elif (error := task.exception()) is not None:
            self._on_failure(error)
