"""Zip files: written to disk as they arrive, then unpacked one entry at a time.

The directory of a zip file is at its end, so nothing can be unpacked before the last byte arrived.
The sizes in the directory are checked before anything is unpacked; zipfile unpacks no more than
they say.
"""

import asyncio
import lzma
import struct
import tempfile
import zipfile
import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import closing
from dataclasses import dataclass
from typing import IO, BinaryIO, Self

from image_categorizer_server.errors import BatchTooLarge, DependencyDown, InvalidRequest
from image_categorizer_server.rpc.batch.validation import checked_filename
from image_categorizer_server.services.upload import NewItem
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
ARCHIVE_TYPES = frozenset({"application/zip", "application/x-zip-compressed"})
PIECE_BYTES = 2**18
IS_ENCRYPTED = 0x1
# A zip file may unpack to this size whatever its ratio.
ANY_RATIO_BYTES = 64 * 2**20
# APPNOTE.TXT, 4.3.16 and 4.3.14: the end of the directory, and before it the one of ZIP64.
END, END_BYTES = b"PK\x05\x06", 22
END_64, END_64_BYTES, LOCATOR_BYTES = b"PK\x06\x06", 56, 20
MAX_COMMENT_BYTES = 65_535
# A directory entry with a long name. zipfile keeps the whole directory in memory.
MAX_ENTRY_BYTES = 46 + 1024
# Metadata that macOS adds for each file.
IGNORED = "__MACOSX/"
FIELD = "images[]"
# What zipfile raises for malicious or damaged files.
DAMAGED = (
    EOFError,
    LookupError,
    NotImplementedError,  # an unsupported compression method or version
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """Limits of a zip file. All are inclusive."""

    max_bytes: int
    """Size of the zip file itself."""
    max_entries: int
    max_unpacked_bytes: int
    max_ratio: float
    """Unpacked bytes divided by packed bytes."""
    max_image_bytes: int
    """Only this much of an entry is read, so only this much counts."""


def is_archive(content_type: str, filename: str) -> bool:
    """Returns whether a file of a form is a zip file."""
    return content_type.lower() in ARCHIVE_TYPES or filename.lower().endswith(".zip")


async def unpacked(content: AsyncIterator[bytes], limits: ArchiveLimits) -> AsyncGenerator[NewItem]:
    """Yields the files in a zip file under their names in it.

    Raises:
        InvalidRequest: it is damaged or encrypted, or a name in it points outside.
        BatchTooLarge: it is too large, or would be when unpacked.
        DependencyDown: the disk is full.
    """
    try:
        with tempfile.TemporaryFile() as file:
            size_bytes = await _store(content, file, limits.max_bytes)
            archive = await asyncio.to_thread(_opened, file, size_bytes, limits)
            with closing(archive):
                for entry in _entries(archive, size_bytes, limits):
                    opened = _Entry(archive, entry)
                    yield NewItem(checked_filename(entry.filename, FIELD), opened, None)
                    opened.close()
    except OSError as error:
        log.warning("cannot store a zip file", folder=tempfile.gettempdir(), error=str(error))
        raise DependencyDown("the server cannot store a zip file now") from error


async def _store(content: AsyncIterator[bytes], file: BinaryIO, max_bytes: int) -> int:
    size_bytes = 0
    async for chunk in content:
        size_bytes += len(chunk)
        if size_bytes > max_bytes:
            raise BatchTooLarge(f"a zip file has more than {max_bytes} bytes")
        await asyncio.to_thread(file.write, chunk)
    return size_bytes


def _opened(file: BinaryIO, size_bytes: int, limits: ArchiveLimits) -> zipfile.ZipFile:
    if _directory_bytes(file, size_bytes) > limits.max_entries * MAX_ENTRY_BYTES:
        raise BatchTooLarge(f"a zip file contains more than {limits.max_entries} files")
    try:
        return zipfile.ZipFile(file)
    except DAMAGED:
        raise _damaged() from None


def _directory_bytes(file: BinaryIO, size_bytes: int) -> int:
    """Returns the size of the directory, as its end states it."""
    file.seek(max(0, size_bytes - END_BYTES - MAX_COMMENT_BYTES))
    tail = file.read()
    start = tail.rfind(END)
    if start < 0 or len(tail) - start < END_BYTES:
        raise _damaged()
    directory_bytes: int = struct.unpack_from("<I", tail, start + 12)[0]
    position = size_bytes - len(tail) + start - LOCATOR_BYTES - END_64_BYTES
    if position >= 0:
        file.seek(position)
        end = file.read(END_64_BYTES)
        if end.startswith(END_64):
            directory_bytes = struct.unpack_from("<Q", end, 40)[0]
    return directory_bytes


def _entries(
    archive: zipfile.ZipFile, size_bytes: int, limits: ArchiveLimits
) -> list[zipfile.ZipInfo]:
    entries = [
        entry
        for entry in archive.infolist()
        if not entry.is_dir() and not entry.filename.startswith(IGNORED)
    ]
    if len(entries) > limits.max_entries:
        raise BatchTooLarge(f"a zip file contains more than {limits.max_entries} files")
    unpacked_bytes = sum(min(entry.file_size, limits.max_image_bytes) for entry in entries)
    max_bytes = max(ANY_RATIO_BYTES, limits.max_ratio * size_bytes)
    if unpacked_bytes > min(limits.max_unpacked_bytes, max_bytes):
        raise BatchTooLarge("a zip file would unpack to more bytes than allowed in a batch")
    for entry in entries:
        _check(entry)
    return entries


def _check(entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    if entry.flag_bits & IS_ENCRYPTED:
        raise InvalidRequest.of([(FIELD, "a zip file is encrypted")])
    if name.startswith("/") or "\\" in name or ".." in name.split("/") or ":" in name[:2]:
        raise InvalidRequest.of([(FIELD, f"a name in a zip file points outside: {name[:100]}")])


class _Entry:
    """The content of one file in a zip file, piece by piece."""

    def __init__(self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
        self._archive = archive
        self._entry = entry
        self._file: IO[bytes] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if piece := await asyncio.to_thread(self._read):
            return piece
        raise StopAsyncIteration

    def _read(self) -> bytes:
        try:
            if self._file is None:
                self._file = self._archive.open(self._entry)
            return self._file.read(PIECE_BYTES)
        except DAMAGED:
            raise _damaged(self._entry.filename) from None

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()


def _damaged(name: str = "") -> InvalidRequest:
    where = f" at {name[:100]}" if name else ""
    return InvalidRequest.of([(FIELD, f"a zip file is damaged{where}")])
