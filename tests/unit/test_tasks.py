"""Owned tasks: what dies is logged and heard of, what is left is ended."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress

import pytest
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.tasks import (
    CANCEL_AGAIN_AFTER_S,
    GIVE_UP_AFTER_S,
    KILL_S,
    TaskOwner,
    cancel_until_ended,
    detached,
    kill_process,
    run_until,
    stop_on_signals,
    uncancelled,
)
from image_categorizer_server.telemetry import configure_logging

from tests.conftest import SLACK_S
from tests.support.polling import elapsed


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


async def swallowing(times):
    """Waits for ever, and swallows so many cancellations, as redis-py can."""
    for _ in range(times):
        with suppress(asyncio.CancelledError):
            await forever()
    await forever()


async def test_a_task_that_swallows_a_cancellation_is_cancelled_again():
    async with asyncio.TaskGroup() as group, asyncio.timeout(SLACK_S):
        tasks = {group.create_task(swallowing(1)), group.create_task(forever())}
        await asyncio.sleep(0)
        assert await cancel_until_ended(tasks) == set()
        assert all(task.cancelled() for task in tasks)


async def test_an_owner_cancels_again_what_swallows_its_cancellation():
    owner = TaskOwner(clean_up_s=0.01)
    task = owner.start(swallowing(2), "reader of Redis")
    await asyncio.sleep(0)
    async with asyncio.timeout(SLACK_S):
        await owner.close()
    assert task.cancelled()


async def test_run_until_cancels_again_what_swallows_its_cancellation():
    stop = asyncio.Event()
    running = asyncio.create_task(run_until(stop, swallowing(1), clean_up_s=0.01))
    await asyncio.sleep(0)
    stop.set()
    async with asyncio.timeout(SLACK_S):
        assert await running is None


async def test_an_owner_leaves_a_task_that_never_ends_and_says_which_and_where(capfd):
    configure_logging("INFO", "json")
    released = asyncio.Event()

    async def stubborn():
        while not released.is_set():
            with suppress(asyncio.CancelledError):
                await released.wait()

    owner = TaskOwner(clean_up_s=0.01)
    task = owner.start(stubborn(), "reader of Redis")
    await asyncio.sleep(0)
    async with asyncio.timeout(GIVE_UP_AFTER_S + SLACK_S):
        await owner.close()
    assert not task.done()
    (line,) = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert (line["level"], line["task"]) == ("error", "reader of Redis")
    assert re.fullmatch(r"locks\.py:[0-9]+", line["place"])
    released.set()
    await task


async def test_a_clean_up_is_not_interrupted_in_its_time():
    cleaned = []

    async def work():
        try:
            await forever()
        finally:
            await elapsed(2 * CANCEL_AGAIN_AFTER_S)
            cleaned.append(True)

    async with TaskOwner() as tasks:
        tasks.start(work(), "x")
        await asyncio.sleep(0)
    assert cleaned


@pytest.mark.parametrize("waits_for", ["task", "thread"])
def test_a_process_that_does_not_end_is_ended_and_says_what_it_waited_for(waits_for):
    code = """
import asyncio, sys, threading
from image_categorizer_server.tasks import end_within
from image_categorizer_server.telemetry import configure_logging

async def stubborn():
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass

async def main():
    loop = asyncio.get_running_loop()
    if sys.argv[1] == "task":
        owned = loop.create_task(stubborn(), name="stubborn task")
    else:
        loop.run_in_executor(None, threading.Event().wait)
    await asyncio.sleep(0)
    end_within(0.5)

configure_logging("INFO", "json")
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code, waits_for],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    (line,) = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 1
    assert line["event"] == "the process does not end, so it is ended"
    assert "stubborn task" in line["tasks"] or "asyncio_0" in line["threads"]


async def test_the_outcome_of_detached_work_is_the_caller_s_or_nobody_s():
    assert await detached(asyncio.sleep(0, 7)) == 7
    with pytest.raises(RuntimeError, match="broken"):
        await detached(failing())
    left = detached(failing())  # a warning about an exception nobody retrieved would fail the test
    await asyncio.wait({left})


async def test_a_killed_process_whose_output_stays_open_is_left(capfd):
    configure_logging("INFO", "json")
    code = "import subprocess, time; subprocess.Popen(['sleep', '30']); print(); time.sleep(60)"
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code), stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert child.stdout is not None
    assert await child.stdout.readline()
    async with asyncio.timeout(KILL_S + SLACK_S):
        assert await kill_process(child) == -signal.SIGKILL
    os.killpg(child.pid, signal.SIGKILL)
    await child.wait()
