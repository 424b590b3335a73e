"""The disk: real files, shared flushes, and what a killed process leaves behind."""

import asyncio
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.settings import Settings
from image_categorizer_server.settings.storage import StorageSettings
from image_categorizer_server.stores.disk import Disk, sync_file_system
from image_categorizer_server.stores.object_store import MemoryStorage, Storage, open_storage
from obstore.store import LocalStore, MemoryStore

from tests.conftest import SLACK_S
from tests.support.polling import eventually, stays


class HeldSync:
    """Counts real flushes; each waits until `go` is set."""

    def __init__(self) -> None:
        self.begun = 0
        self.go = threading.Event()

    def __call__(self, folder: Path) -> None:
        self.begun += 1
        assert self.go.wait(5)
        sync_file_system(folder)


async def test_callers_that_wait_share_a_flush_that_begins_after_their_calls(tmp_path):
    sync = HeldSync()
    disk = Disk(tmp_path, sync)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(disk.flush())
        await eventually(lambda: sync.begun)
        later = [group.create_task(disk.flush()) for _ in range(5)]
        await stays(lambda: sync.begun == 1, for_s=0.05)
        assert not any(task.done() for task in (first, *later))
        sync.go.set()
    assert sync.begun == 2
    await disk.flush()
    assert sync.begun == 3


async def test_a_caller_that_is_cancelled_does_not_cost_others_their_flush(tmp_path):
    sync = HeldSync()
    disk = Disk(tmp_path, sync)
    async with asyncio.TaskGroup() as group:
        cancelled, patient = (group.create_task(disk.flush()) for _ in range(2))
        await eventually(lambda: sync.begun)
        cancelled.cancel()
        sync.go.set()
    assert cancelled.cancelled()
    assert patient.done()
    assert sync.begun == 2


async def test_a_disk_that_hangs_is_given_up_and_takes_one_thread(tmp_path):
    sync = HeldSync()
    disk = Disk(tmp_path, sync, flush_within_s=0.1)
    storage = Storage(MemoryStore(), StorageSettings(), disk)
    async with asyncio.timeout(SLACK_S):
        for _ in range(3):
            with pytest.raises(DependencyDown):
                await storage.flush()
        assert sync.begun == 1
        sync.go.set()
        await eventually(lambda: can_flush(disk))


async def can_flush(disk):
    with suppress(TimeoutError):
        await disk.flush()
        return True


async def test_a_disk_that_fails_does_not_acknowledge(tmp_path):
    gone = Disk(tmp_path / "no folder")
    storage = Storage(LocalStore(tmp_path), StorageSettings(), gone)
    await storage.put("t/images/a", b"x")
    with pytest.raises(DependencyDown):
        await storage.flush()


@pytest.mark.parametrize("wanted", [True, False])
async def test_a_setting_disables_flushes(tmp_path, wanted):
    sync = HeldSync()
    sync.go.set()
    storage = Storage(MemoryStore(), StorageSettings(flush=wanted), Disk(tmp_path, sync))
    await storage.flush()
    assert sync.begun == int(wanted)


PUTTING = """
import asyncio, sys
from pathlib import Path
from obstore.store import LocalStore

async def endless():
    while True:
        yield bytes(2**24)
        await asyncio.sleep(0.01)

store = LocalStore(Path(sys.argv[1]), mkdir=True)
asyncio.run(store.put_async("t/images/aa/a", endless()))
"""


async def test_an_unfinished_file_of_a_killed_process_is_removed_an_hour_later(tmp_path):
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PUTTING, tmp_path)
    await eventually(lambda: list(tmp_path.glob("t/images/aa/a#*")))
    process.kill()
    await process.wait()
    (left,) = tmp_path.glob("t/images/aa/a#*")
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
