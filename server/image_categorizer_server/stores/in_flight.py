"""Which images a process has in hand, in a file that outlives the process.

A process that dies cannot say what it had.  So it keeps fingerprints in memory that is mapped to a
file: writing one is no system call, and the kernel keeps what a killed process has written.  A
process that starts reads the files that nobody has locked, and removes them.
"""

import fcntl
import mmap
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SLOTS = 4096
FINGERPRINT_BYTES = 12
EMPTY = bytes(FINGERPRINT_BYTES)
SAMPLE_BYTES = 2**16
SUFFIX = ".in-flight"


def fingerprint_of(content: bytes) -> bytes:
    """Returns what tells most images apart, in microseconds: length, and a sum of both ends."""
    ends = zlib.crc32(content[-SAMPLE_BYTES:], zlib.crc32(content[:SAMPLE_BYTES]))
    return len(content).to_bytes(8) + ends.to_bytes(4)


class InFlight:
    """The fingerprints of the images that this process has in hand."""

    def __init__(self, folder: Path) -> None:
        """Reads and removes what dead processes left, and makes a file of its own.

        Args:
            folder: is made if it does not exist.

        Raises:
            OSError: the folder cannot be written.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.left_behind = _take(folder)
        """What processes had in hand when they died."""
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.truncate(SLOTS * FINGERPRINT_BYTES)
            self._map = mmap.mmap(file.fileno(), 0)
        self._file = Path(file.name).open("rb")  # noqa: SIM115 - holds the lock; closed in `close`
        fcntl.flock(self._file, fcntl.LOCK_EX)
        # Only once it is locked: others take what is not.
        self._path = Path(file.name).rename(f"{file.name}{SUFFIX}")
        self._free = list(range(SLOTS))

    @contextmanager
    def holding(self, content: bytes) -> Iterator[None]:
        """Notes an image during the block; beyond `SLOTS` images, none."""
        if not self._free:
            yield
            return
        slot = self._free.pop()
        self._write(slot, fingerprint_of(content))
        try:
            yield
        finally:
            self._write(slot, EMPTY)
            self._free.append(slot)

    def close(self) -> None:
        """Removes the file: a process that ends in order leaves nothing behind."""
        self._path.unlink(missing_ok=True)
        self._map.close()
        self._file.close()

    def _write(self, slot: int, fingerprint: bytes) -> None:
        start = slot * FINGERPRINT_BYTES
        self._map[start : start + FINGERPRINT_BYTES] = fingerprint


def _take(folder: Path) -> set[bytes]:
    """Returns the fingerprints in files of dead processes, and removes these."""
    found: set[bytes] = set()
    for path in folder.glob(f"*{SUFFIX}"):
        with suppress(FileNotFoundError), path.open("rb") as file:  # another may take it first
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # its process is alive
            content = file.read(SLOTS * FINGERPRINT_BYTES)
            path.unlink(missing_ok=True)
            starts = range(0, len(content), FINGERPRINT_BYTES)
            found.update(content[start : start + FINGERPRINT_BYTES] for start in starts)
    return found - {EMPTY}
