"""Owned tasks: what dies is logged and heard of, what is left is ended."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.tasks import (
    TaskOwner,
    cancel_until_ended,
    detached,
    run_until,
    stop_on_signals,
    uncancelled,
)
from image_categorizer_server.telemetry import configure_logging


async def forever():
    await asyncio.Event().wait()


async def failing():
    raise RuntimeError("broken")


async def test_a_dead_task_is_logged_and_reported(capfd):
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_asks_to_stop(number):
    stop = stop_on_signals()
    try:
        os.kill(os.getpid(), number)
        async with asyncio.timeout(10):
            await stop.wait()
    finally:
        for each in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(each)


def test_the_second_signal_ends_the_process():
    code = """
import asyncio, os, signal
from image_categorizer_server.tasks import stop_on_signals

async def main():
    stop = stop_on_signals(before_exit=lambda: print("killed", flush=True))
    os.kill(os.getpid(), signal.SIGTERM)
    await stop.wait()
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.Event().wait()

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (1, "killed\n")


async def test_a_task_that_swallows_a_cancellation_is_cancelled_again():
    async def stubborn():
        try:
            await forever()
        except asyncio.CancelledError:
            await forever()

    async with asyncio.TaskGroup() as group:
        tasks = {group.create_task(stubborn()), group.create_task(forever())}
        await asyncio.sleep(0)
        await cancel_until_ended(tasks)
        assert all(task.cancelled() for task in tasks)


async def test_the_outcome_of_detached_work_is_the_caller_s_or_nobody_s():
    assert await detached(asyncio.sleep(0, 7)) == 7
    with pytest.raises(RuntimeError, match="broken"):
        await detached(failing())
    left = detached(failing())  # a warning about an exception nobody retrieved would fail the test
    await asyncio.wait({left})
