"""Owned tasks: what dies is logged and heard of, what is left is ended."""

import asyncio

import pytest
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.tasks import TaskOwner, run_until, uncancelled
from image_categorizer_server.telemetry import configure_logging


async def forever():
    await asyncio.Event().wait()


async def failing():
    raise RuntimeError("broken")


async def test_a_dead_task_is_logged_and_told(capfd):
    configure_logging("INFO", "json")
    heard = []
    async with TaskOwner(heard.append) as tasks:
        tasks.start(failing(), "model watcher")
        tasks.start(forever(), "health reporter")
        tasks.check()
        while len(tasks) > 1:
            await asyncio.sleep(0)
        with pytest.raises(DependencyDown, match="model watcher"):
            tasks.check()
    assert [str(error) for error in heard] == ["broken"]
    assert "broken" in capfd.readouterr().err


async def test_leaving_the_block_ends_every_task():
    async with TaskOwner() as tasks:
        task = tasks.start(forever(), "x")
        await asyncio.sleep(0)
    assert task.cancelled()
    tasks.check()


async def test_waiting_includes_tasks_that_start_meanwhile():
    done = []

    async def second():
        done.append(2)

    async def first():
        tasks.start(second(), "second")
        done.append(1)

    async with TaskOwner() as tasks:
        tasks.start(first(), "first")
        await tasks.wait()
    assert sorted(done) == [1, 2]


async def test_work_ends_when_stop_is_set():
    stop = asyncio.Event()
    ended = []

    async def work():
        try:
            await forever()
        finally:
            ended.append(True)

    running = asyncio.create_task(run_until(stop, work()))
    await asyncio.sleep(0)
    stop.set()
    assert await running is None
    assert ended


async def test_work_that_ends_first_gives_its_result_or_error():
    stop = asyncio.Event()
    assert await run_until(stop, asyncio.sleep(0, "result")) == "result"
    with pytest.raises(RuntimeError, match="broken"):
        await run_until(stop, failing())


async def test_uncancelled_work_outlives_its_caller():
    proceed, done = asyncio.Event(), []

    async def work():
        await proceed.wait()
        done.append(True)

    caller = asyncio.create_task(uncancelled(work()))
    await asyncio.sleep(0)
    for _ in range(3):
        caller.cancel()
        await asyncio.sleep(0)
    assert not caller.done()
    proceed.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert done


async def test_uncancelled_work_hands_on_its_result_and_its_error():
    assert await uncancelled(asyncio.sleep(0, 7)) == 7
    with pytest.raises(RuntimeError, match="broken"):
        await uncancelled(failing())
