"""The disk of this machine: what is on it outlasts a power cut, by one flush for all who wait.

A file that was written and renamed is in the system's memory only, for half a minute or so.  A
flush of the whole file system (Linux: syncfs) takes the folders along, and is paid once for a
thousand images: 7 ms, where one flush for each of them took 67 ms.

What a process was storing when it died stays as a file that the store neither lists nor takes up
again: `<name>#<number>`, which obstore renames to `<name>` once it is whole.
"""

import asyncio
import ctypes
import os
import re
import time
from pathlib import Path

UNFINISHED = re.compile(r".+#[0-9]+")


class Disk:
    """The file system that a folder is on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: asyncio.Task[None] | None = None
        self._waiting: asyncio.Task[None] | None = None

    async def flush(self) -> None:
        """Returns once all that was written before the call is on the disk.

        Raises:
            OSError: the disk fails, or the folder is gone.
        """
        # One that has begun may have passed over what was written since.
        if self._waiting is None:
            self._waiting = asyncio.create_task(self._flush_after(self._running))
        await asyncio.shield(self._waiting)

    async def _flush_after(self, before: "asyncio.Task[None] | None") -> None:
        if before is not None:
            await asyncio.wait({before})
        self._running, self._waiting = self._waiting, None
        await asyncio.to_thread(_flush, self._folder)

    async def remove_unfinished(self, older_than_s: float) -> int:
        """Removes files that were begun and not touched for so long; returns how many.

        Raises:
            OSError: the disk fails.
        """
        return await asyncio.to_thread(_remove_unfinished, self._folder, older_than_s)


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
            except FileNotFoundError:  # another process sweeps, too
                continue
    return count


def _flush(folder: Path) -> None:
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
