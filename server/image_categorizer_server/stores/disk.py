"""A local disk: makes written files durable, and removes the rest of interrupted writes.

A file that was written and renamed stays in the kernel's memory only, for up to 30 seconds.  One
flush of the whole file system (Linux: syncfs) covers all files and folders: 7 ms for a thousand
images, where one flush for each of them takes 67 ms.

An interrupted write leaves the file `<name>#<number>`: obstore renames it to `<name>` once it is
complete, and neither lists nor reuses it.
"""

import asyncio
import ctypes
import os
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from image_categorizer_server.tasks import detached

# A flush covers all files of the file system, also those of other programs.
FLUSH_WITHIN_S = 120.0
UNFINISHED = re.compile(r".+#[0-9]+")


def sync_file_system(folder: Path) -> None:
    """Blocks until all files on the folder's file system are on the disk.

    Raises:
        OSError: the disk fails, or there is no such folder.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "syncfs"):  # macOS
        os.sync()
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        if libc.syncfs(opened):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(opened)


class Disk:
    """The file system that holds a folder."""

    def __init__(
        self,
        folder: Path,
        sync: Callable[[Path], None] = sync_file_system,
        flush_within_s: float = FLUSH_WITHIN_S,
    ) -> None:
        """Configures the disk.

        Args:
            folder: any folder on it.
            sync: flushes the file system of a folder; blocks.
            flush_within_s: how long a caller waits for a flush.
        """
        self._folder = folder
        self._sync = sync
        self._flush_within_s = flush_within_s
        self._flushing: asyncio.Task[None] | None = None
        self._begun = 0

    async def flush(self) -> None:
        """Returns once everything written before the call is on the disk.

        Raises:
            TimeoutError: the disk does not answer.
            OSError: the disk fails, or the folder is gone.
        """
        # A flush that has already begun may have missed our file.  The next one covers it, and
        # everyone else who waits now.
        wanted = self._begun + 1
        async with asyncio.timeout(self._flush_within_s):
            while self._begun < wanted:
                if self._flushing is not None and not self._flushing.done():
                    await asyncio.wait({self._flushing})
                    continue
                self._begun += 1
                # One thread at a time, whoever gives up: a disk that hangs must not take them all.
                self._flushing = detached(asyncio.to_thread(self._sync, self._folder))
            assert self._flushing is not None
            await asyncio.shield(self._flushing)

    async def remove_unfinished(self, older_than_s: float) -> int:
        """Removes the files of interrupted writes, and returns their number.

        Args:
            older_than_s: how long they have not been written to, in seconds.

        Raises:
            OSError: the disk fails.
        """
        return await asyncio.to_thread(_remove_unfinished, self._folder, older_than_s)

    async def remove_folder(self, name: str) -> None:
        """Removes a folder with everything in it, also the files of interrupted writes.

        Raises:
            OSError: the disk fails.
        """
        await asyncio.to_thread(_remove_folder, self._folder / name)


def _remove_folder(folder: Path) -> None:
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)


def _remove_unfinished(folder: Path, older_than_s: float) -> int:
    before_s = time.time() - older_than_s
    count = 0
    for parent, _, names in os.walk(folder):
        for name in filter(UNFINISHED.fullmatch, names):
            file = Path(parent, name)
            try:
                if file.stat().st_mtime < before_s:
                    file.unlink()
                    count += 1
            except FileNotFoundError:  # another process removed it
                continue
    return count
