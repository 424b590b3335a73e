"""The disk: real files, who shares a flush with whom, and what a killed process leaves."""

import asyncio
import os
import sys
import threading

import pytest
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.settings import Settings
from image_categorizer_server.settings.storage import StorageSettings
from image_categorizer_server.stores import disk
from image_categorizer_server.stores.disk import Disk
from image_categorizer_server.stores.object_store import MemoryStorage, open_storage


@pytest.fixture
def flushes(monkeypatch):
    """Counts real flushes, which begin only when `go` is set."""
    real = disk._flush
    begun, go = [], threading.Event()

    def counted(folder):
        begun.append(folder)
        assert go.wait(5)
        real(folder)

    monkeypatch.setattr(disk, "_flush", counted)
    return begun, go


async def test_those_who_wait_share_a_flush_that_begins_after_they_came(tmp_path, flushes):
    begun, go = flushes
    flusher = Disk(tmp_path)
    first = asyncio.create_task(flusher.flush())
    while not begun:
        await asyncio.sleep(0.01)
    later = [asyncio.create_task(flusher.flush()) for _ in range(5)]
    await asyncio.sleep(0.05)
    assert len(begun) == 1
    assert not any(task.done() for task in (first, *later))
    go.set()
    await asyncio.gather(first, *later)
    assert len(begun) == 2
    await flusher.flush()
    assert len(begun) == 3


async def test_who_gives_up_leaves_the_others_their_flush(tmp_path, flushes):
    _, go = flushes
    flusher = Disk(tmp_path)
    impatient, patient = (asyncio.create_task(flusher.flush()) for _ in range(2))
    await asyncio.sleep(0.05)
    impatient.cancel()
    go.set()
    await patient
    assert impatient.cancelled()


async def test_a_disk_that_fails_is_no_acknowledgement(tmp_path):
    async with open_storage(Settings(storage=StorageSettings(path=tmp_path / "a"))) as storage:
        await storage.put("t/images/a", b"x")
        await storage.flush()
        storage._disk = Disk(tmp_path / "a" / "t" / "images" / "a" / "no folder")
        with pytest.raises(DependencyDown):
            await storage.flush()


async def test_a_setting_leaves_it_out(tmp_path, flushes):
    begun, go = flushes
    go.set()
    for wanted in (True, False):
        settings = Settings(storage=StorageSettings(path=tmp_path, flush=wanted))
        async with open_storage(settings) as storage:
            await storage.flush()
    assert len(begun) == 1


PUTTING = """
import asyncio, sys
from pathlib import Path
from image_categorizer_server.settings.storage import StorageSettings
from image_categorizer_server.settings import Settings
from image_categorizer_server.stores.object_store import open_storage

async def endless():
    while True:
        yield bytes(2**24)
        await asyncio.sleep(0.01)

async def main():
    settings = Settings(storage=StorageSettings(path=Path(sys.argv[1])))
    async with open_storage(settings) as storage:
        await storage.put_stream("t/images/aa/a", endless(), 2**30)

asyncio.run(main())
"""


async def test_what_a_killed_process_was_storing_is_removed_an_hour_later(tmp_path):
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PUTTING, tmp_path)
    async with asyncio.timeout(20):
        while not (begun := list(tmp_path.glob("t/images/aa/a#*"))):
            await asyncio.sleep(0.02)
        process.kill()
        await process.wait()
    (left,) = begun
    async with open_storage(Settings(storage=StorageSettings(path=tmp_path))) as storage:
        await storage.put("t/images/aa/b", b"whole")
        assert not await storage.exists("t/images/aa/a")
        assert await storage.remove_unfinished() == 0
        for file in tmp_path.glob("t/images/aa/*"):
            an_hour_ago_s = file.stat().st_mtime - 3601
            os.utime(file, (an_hour_ago_s, an_hour_ago_s))
        assert await storage.remove_unfinished() == 1
        assert not left.exists()
        assert await storage.get("t/images/aa/b") == b"whole"
    assert await MemoryStorage().remove_unfinished() == 0
