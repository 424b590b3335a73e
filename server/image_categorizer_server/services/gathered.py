"""Calls that come while others run, gathered into the next run.

    call, call, call ─▶ wait while a run of their tenant lasts ─▶ one run for all ─▶ answers

A transaction costs about the same for many rows as for one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.tasks import TaskOwner

Item = TypeVar("Item")
Answer = TypeVar("Answer")
MAX_ITEMS = 100
"""Of one run."""


class Gathered(Generic[Item, Answer]):
    """Answers calls, those of one tenant that wait at the same time together.

    As many items wait as there are calls.
    """

    def __init__(
        self,
        run: Callable[[str, Sequence[Item]], Awaitable[Sequence[Answer]]],
        tasks: TaskOwner,
        name: str,
    ) -> None:
        """Starts without calls.

        Args:
            run: returns the answers to items of a tenant, in their order.  It has a deadline, and
                runs in the tenant scope of the first call.
            tasks: owns the runs.
            name: what the runs do, for the log.
        """
        self._run = run
        self._tasks = tasks
        self._name = name
        self._waiting: dict[str, list[tuple[Item, asyncio.Future[Answer]]]] = {}

    async def answer(self, tenant_id: str, item: Item) -> Answer:
        """Returns the answer to an item.

        Raises:
            Exception: what the run raised.
            DependencyDown: the server stops.
        """
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        is_first = tenant_id not in self._waiting
        self._waiting.setdefault(tenant_id, []).append((item, answer))
        if is_first:
            self._tasks.start(self._run_all(tenant_id), self._name)
        return await answer

    async def _run_all(self, tenant_id: str) -> None:
        """Runs until no call of the tenant waits."""
        waiting = self._waiting[tenant_id]
        some: list[tuple[Item, asyncio.Future[Answer]]] = []
        try:
            while waiting:
                some = waiting[:MAX_ITEMS]
                del waiting[:MAX_ITEMS]
                await self._run_some(tenant_id, some)
        finally:
            del self._waiting[tenant_id]
            for _, answer in (*some, *waiting):
                if not answer.done():
                    answer.set_exception(DependencyDown("the server stops"))

    async def _run_some(
        self, tenant_id: str, some: Sequence[tuple[Item, asyncio.Future[Answer]]]
    ) -> None:
        try:
            found = await self._run(tenant_id, [item for item, _ in some])
        except Exception as error:  # noqa: BLE001 - each caller gets it
            for _, answer in some:
                if not answer.done():
                    answer.set_exception(error)
            return
        for (_, answer), one in zip(some, found, strict=True):
            if not answer.done():  # otherwise its caller is gone
                answer.set_result(one)
