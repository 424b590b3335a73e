"""Calls that come while a run lasts are answered by the next one."""

import asyncio

import pytest
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.services.gathered import MAX_ITEMS, Gathered
from image_categorizer_server.tasks import TaskOwner


class Runs:
    """Doubles numbers, when it is allowed to; fails at zero."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, list[int]]] = []
        self.may_end = asyncio.Event()

    async def run(self, tenant_id, items):
        self.seen.append((tenant_id, list(items)))
        await self.may_end.wait()
        if 0 in items:
            raise ZeroDivisionError
        return [2 * item for item in items]


@pytest.fixture
async def runs():
    return Runs()


@pytest.fixture
async def gathered(runs):
    async with TaskOwner() as tasks:
        yield Gathered(runs.run, tasks, "runner")
        tasks.check()


async def started(gathered, *items, tenant="t"):
    calls = [asyncio.create_task(gathered.answer(tenant, item)) for item in items]
    for _ in range(3):
        await asyncio.sleep(0)
    return calls


async def test_calls_of_a_tenant_that_wait_share_a_run(gathered, runs):
    calls = [*await started(gathered, 1), *await started(gathered, 2, 3)]
    calls += await started(gathered, 4, tenant="u")
    runs.may_end.set()
    assert await asyncio.gather(*calls) == [2, 4, 6, 8]
    assert runs.seen == [("t", [1]), ("u", [4]), ("t", [2, 3])]
    assert await gathered.answer("t", 5) == 10


async def test_a_run_has_a_limit(gathered, runs):
    calls = await started(gathered, *range(1, 2 * MAX_ITEMS + 2))
    runs.may_end.set()
    await asyncio.gather(*calls)
    assert [len(items) for _, items in runs.seen] == [MAX_ITEMS, MAX_ITEMS, 1]


async def test_an_error_reaches_those_of_its_run_only(gathered, runs):
    first = await started(gathered, 1)
    failing = await started(gathered, 0, 2)
    runs.may_end.set()
    assert await asyncio.gather(*first) == [2]
    for call in failing:
        with pytest.raises(ZeroDivisionError):
            await call
    assert await gathered.answer("t", 3) == 6


async def test_a_caller_that_is_gone_disturbs_nobody(gathered, runs):
    calls = await started(gathered, 1, 2)
    calls[0].cancel()
    waiting = await started(gathered, 3)
    runs.may_end.set()
    assert await calls[1] == 4
    assert await waiting[0] == 6


async def test_those_who_wait_at_the_end_are_told(runs):
    async with TaskOwner() as tasks:
        gathered = Gathered(runs.run, tasks, "runner")
        calls = [*await started(gathered, 1), *await started(gathered, 2)]
    for call in calls:
        with pytest.raises(DependencyDown):
            await call
