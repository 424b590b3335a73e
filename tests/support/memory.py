"""The memory of processes during a test."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

INTERVAL_S = 0.1
MEGABYTE = 1_000_000


class MemoryWatch:
    """The memory of processes and their children: at the start, and the maximum since."""

    def __init__(self, processes: dict[str, psutil.Process]) -> None:
        self._processes = processes
        self._start = self._sizes()
        self._max = dict(self._start)

    def look(self) -> None:
        self._max = {name: max(size, self._max[name]) for name, size in self._sizes().items()}

    def grown_mb(self, name: str) -> float:
        """Returns how much the memory of a process has grown at most."""
        return (self._max[name] - self._start[name]) / MEGABYTE

    def _sizes(self) -> dict[str, int]:
        return {
            name: sum(p.memory_info().rss for p in (process, *process.children(recursive=True)))
            for name, process in self._processes.items()
        }


@contextmanager
def watching_memory(**processes: psutil.Process) -> Iterator[MemoryWatch]:
    """Looks at the memory of processes 10 times a second, in a thread."""
    watch, done = MemoryWatch(processes), threading.Event()

    def keep_looking() -> None:
        while not done.wait(INTERVAL_S):
            watch.look()

    thread = threading.Thread(target=keep_looking)
    thread.start()
    try:
        yield watch
    finally:
        done.set()
        thread.join()
