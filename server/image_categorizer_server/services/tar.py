"""A tar file (POSIX.1-2001) that is made while it is read: nothing of it is kept."""

import tarfile
from collections.abc import Iterator
from datetime import datetime
from typing import IO

PIECE_BYTES = 65_536
FILE_MODE = 0o644
END = bytes(2 * tarfile.BLOCKSIZE)


def header_of(name: str, size_bytes: int, time: datetime) -> bytes:
    """Returns what precedes the content of a file."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size_bytes, int(time.timestamp()), FILE_MODE
    return info.tobuf(tarfile.PAX_FORMAT)


def padding_of(size_bytes: int) -> bytes:
    """Returns what follows the content of a file."""
    return bytes(-size_bytes % tarfile.BLOCKSIZE)


def pieces_of(name: str, content: bytes, time: datetime) -> Iterator[bytes]:
    """Yields a file in pieces that fit into a message."""
    whole = header_of(name, len(content), time) + content + padding_of(len(content))
    for start in range(0, len(whole), PIECE_BYTES):
        yield whole[start : start + PIECE_BYTES]


def pieces_of_file(name: str, file: IO[bytes], time: datetime) -> Iterator[bytes]:
    """Yields what an open file holds in pieces that fit into a message."""
    size_bytes = file.seek(0, 2)
    file.seek(0)
    yield header_of(name, size_bytes, time)
    while piece := file.read(PIECE_BYTES):
        yield piece
    if padding := padding_of(size_bytes):
        yield padding
