"""Child processes: ready, restarted, stopped, never left behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.local.supervisor import (
    LAST_LINES,
    LOG_ENDS_WITHIN_S,
    ManagedProcess,
    Supervisor,
)
from image_categorizer_server.tasks import run_until

from tests.conftest import SLACK_S
from tests.support.polling import eventually

READY = "import pathlib, signal, sys, time; print('up', flush=True); pathlib.Path({!r}).touch(); "
SLEEP = "time.sleep(60)"


@pytest.fixture
def said():
    return []


@pytest.fixture
async def supervisor(tmp_path, said):
    supervisor = Supervisor(said.append, tmp_path, tmp_path / "pids.json")
    yield supervisor
    await supervisor.stop()


@pytest.fixture
def python(tmp_path):
    """Makes processes that run Python code, and are ready once they have written a file."""

    def make(name: str, before: str = "", after: str = SLEEP) -> ManagedProcess:
        file = Path(tmp_path / f"{name}.ready")

        async def is_ready() -> bool:
            return file.exists()  # noqa: ASYNC240 - takes microseconds

        code = f"import signal; {before}{READY.format(str(file))}{after}"
        return ManagedProcess(name, [sys.executable, "-c", code], is_ready, ready_within_s=30)

    return make


async def never() -> bool:
    return False


def recorded(tmp_path) -> dict[str, int]:
    """Returns the recorded process IDs by name."""
    return {e["name"]: e["pid"] for e in json.loads((tmp_path / "pids.json").read_text())}


async def test_processes_are_ready_after_start_and_gone_after_stop(supervisor, python, tmp_path):
    await supervisor.start(python("a"), python("b"))
    assert all((tmp_path / f"{name}.ready").exists() for name in "ab")
    started = [psutil.Process(pid) for pid in recorded(tmp_path).values()]
    assert len(started) == 2
    await supervisor.stop()
    assert not any(process.is_running() for process in started)
    assert not (tmp_path / "pids.json").exists()
    assert (tmp_path / "a.log").read_text() == "up\n"


async def test_a_process_that_ends_early_shows_the_end_of_its_log(supervisor):
    code = "print(*range(20), sep='\\n'); raise SystemExit(3)"
    failing = ManagedProcess("child", [sys.executable, "-c", code], never, ready_within_s=30)
    with pytest.raises(OperatorError) as caught:
        await supervisor.start(failing)
    lines = str(caught.value).splitlines()
    assert lines[0] == "child ended with status 3."
    assert [line.strip() for line in lines[-LAST_LINES:]] == ["15", "16", "17", "18", "19"]


async def test_a_process_that_is_not_ready_in_time_is_named(supervisor, python):
    slow = replace(python("slow"), is_ready=never, ready_within_s=0.2)
    with pytest.raises(OperatorError, match=r"slow was not ready within 0\.2 s"):
        await supervisor.start(slow)


async def test_a_process_that_ends_is_started_again(supervisor, python, tmp_path, said):
    await supervisor.start(python("child"))
    first = recorded(tmp_path)["child"]

    async def restarted() -> None:
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: recorded(tmp_path)["child"] != first)
        done.set()

    done = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(restarted())
        await run_until(done, supervisor.watch())
    assert said == ["child ended with status -9; starting it again in 0.5 s"]


async def test_a_process_that_ignores_its_signal_is_killed(supervisor, python, tmp_path, said):
    ignoring = python("child", before="signal.signal(signal.SIGTERM, signal.SIG_IGN); ")
    await supervisor.start(replace(ignoring, stop_within_s=0.3))
    child = psutil.Process(recorded(tmp_path)["child"])
    await supervisor.stop()
    assert not child.is_running()
    assert said == ["child did not stop within 0.3 s and was killed."]


async def test_a_grandchild_that_keeps_the_output_open_delays_no_stop(supervisor, python):
    start = "import subprocess; subprocess.Popen(['sleep', '30']); "
    await supervisor.start(python("child", before=start))
    async with asyncio.timeout(LOG_ENDS_WITHIN_S + SLACK_S):
        await supervisor.stop()


async def test_kill_ends_all_at_once(supervisor, python, tmp_path):
    ignoring = python("child", before="signal.signal(signal.SIGTERM, signal.SIG_IGN); ")
    await supervisor.start(ignoring)
    child = psutil.Process(recorded(tmp_path)["child"])
    supervisor.kill()
    await eventually(lambda: not child.is_running())


async def test_the_last_started_stops_first(supervisor, python, tmp_path):
    order = tmp_path / "order"
    said_last = f"open({str(order)!r}, 'a').write(NAME); sys.exit()"
    on_stop = f"signal.signal(signal.SIGTERM, lambda *_: exec({said_last!r})); "
    for name in ("first", "second"):
        await supervisor.start(python(name, before=f"NAME = '{name} '; {on_stop}"))
    await supervisor.stop()
    assert order.read_text() == "second first "


async def test_run_stops_all_when_asked_to_or_when_the_work_fails(python, tmp_path, said):
    for fails in (False, True):
        supervisor, stop = Supervisor(said.append, pid_file=tmp_path / "pids.json"), asyncio.Event()

        async def work(supervisor=supervisor, stop=stop, fails=fails):
            await supervisor.start(python("child"))
            if fails:
                raise OperatorError("no")
            stop.set()
            await supervisor.watch()

        if fails:
            with pytest.raises(OperatorError, match="no"):
                await supervisor.run(work(), stop)
        else:
            await supervisor.run(work(), stop)
        assert not (tmp_path / "pids.json").exists()
    assert said == ["Stopping."]


def test_orphans_of_an_interrupted_run_are_ended(tmp_path, said):
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    orphan = psutil.Process(process.pid)
    reused = {"pid": os.getpid(), "create_time": 1.0}
    left = {"pid": orphan.pid, "create_time": orphan.create_time()}
    entries = [{"name": "x", "stop_signal": int(signal.SIGTERM)} | each for each in (reused, left)]
    file = tmp_path / "pids.json"
    file.write_text(json.dumps(entries))
    assert Supervisor(said.append, pid_file=file).end_orphans() == 1
    process.wait(10)
    assert not orphan.is_running()
    assert not file.exists()


@pytest.mark.parametrize("content", [None, "", "{"])
def test_without_a_readable_record_there_are_no_orphans(tmp_path, said, content):
    file = tmp_path / "pids.json"
    if content is not None:
        file.write_text(content)
    assert Supervisor(said.append, pid_file=file).end_orphans() == 0
