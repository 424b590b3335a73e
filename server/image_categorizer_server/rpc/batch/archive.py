"""Zip files: written to disk as they arrive, then unpacked one entry at a time.

The directory of a zip file is at its end, so nothing can be unpacked before the last byte arrived.
The sizes in the directory are checked before anything is unpacked, and nothing is unpacked beyond
them.  An entry that is damaged fails alone.
"""

import asyncio
import os
import tempfile
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import islice
from struct import Struct
from typing import BinaryIO, Self

from image_categorizer_server.errors import (
    BatchTooLarge,
    DependencyDown,
    InvalidRequest,
    UndecodableImage,
)
from image_categorizer_server.rpc.batch.validation import checked_filename
from image_categorizer_server.rpc.batch.zip_directory import DamagedZip, ZipDirectory, ZipEntry
from image_categorizer_server.services.upload import IgnoredFile, NewItem
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
ARCHIVE_TYPES = frozenset({"application/zip", "application/x-zip-compressed"})
PIECE_BYTES = 2**18
ENTRIES_AT_ONCE = 256
IS_ENCRYPTED = 0x1
STORED, DEFLATED = 0, 8
# A zip file may unpack to this size whatever its ratio.
ANY_RATIO_BYTES = 64 * 2**20
# Folders, and files of operating systems, for each file that becomes an item.
ENTRIES_PER_FILE = 4
FIELD = "images[]"
# APPNOTE.TXT, 4.3.7: signature and, from byte 26, the sizes of the name and the extra fields.
LOCAL_HEADER, LOCAL_HEADER_MARK = Struct("<4s22x2H"), b"PK\x03\x04"
# What operating systems leave in folders, in lower case: macOS, Windows, Synology.
SYSTEM_NAMES = frozenset(
    (
        "__macosx",
        ".appledouble",
        ".ds_store",
        "@eadir",
        "desktop.ini",
        "ehthumbs.db",
        "thumbs.db",
    )
)
RESOURCE_FORK = "._"


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """Limits of a zip file. All are inclusive."""

    max_bytes: int
    """Size of the zip file itself."""
    max_entries: int
    """Files in it that become items."""
    max_unpacked_bytes: int
    max_ratio: float
    """Unpacked bytes divided by packed bytes."""
    max_image_bytes: int
    """Only this much of an entry is read, so only this much counts."""


def is_archive(content_type: str, filename: str) -> bool:
    """Returns whether a file of a form is a zip file."""
    return content_type.lower() in ARCHIVE_TYPES or filename.lower().endswith(".zip")


async def unpacked(
    content: AsyncIterator[bytes], limits: ArchiveLimits
) -> AsyncGenerator[NewItem | IgnoredFile]:
    """Yields the files in a zip file under their names in it.

    Reading a damaged file raises `UndecodableImage`; the files after it can be read all the same.

    Raises:
        InvalidRequest: it is damaged or encrypted, or a name in it points outside.
        BatchTooLarge: it is too large, or would be when unpacked.
        DependencyDown: the disk is full.
    """
    try:
        with tempfile.TemporaryFile() as file:
            size_bytes = await _store(content, file, limits.max_bytes)
            directory = await asyncio.to_thread(_checked, file.fileno(), size_bytes, limits)
            entries = directory.entries()
            while page := await asyncio.to_thread(_page, entries):
                for entry in page:
                    if entry.name.endswith("/"):
                        continue
                    if _is_of_a_system(entry.name):
                        yield IgnoredFile(entry.name)
                        continue
                    opened = _Content(file.fileno(), entry, directory.position)
                    yield NewItem(checked_filename(entry.name, FIELD), opened, None)
    except DamagedZip:
        raise InvalidRequest.of([(FIELD, "a zip file is damaged")]) from None
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
    await asyncio.to_thread(file.flush)
    return size_bytes


def _checked(file: int, size_bytes: int, limits: ArchiveLimits) -> ZipDirectory:
    """Returns the directory of a zip file that may be unpacked."""
    directory = ZipDirectory(file, size_bytes)
    max_entries = limits.max_entries
    if directory.has_more_than(max_entries * ENTRIES_PER_FILE):
        raise _too_many(max_entries)
    max_bytes = max(ANY_RATIO_BYTES, limits.max_ratio * size_bytes)
    max_bytes = min(limits.max_unpacked_bytes, max_bytes)
    count = unpacked_bytes = 0
    for entry in directory.entries():
        if entry.name.endswith("/") or _is_of_a_system(entry.name):
            continue
        _check(entry)
        count += 1
        unpacked_bytes += min(entry.unpacked_bytes, limits.max_image_bytes)
        if count > max_entries:
            raise _too_many(max_entries)
        if unpacked_bytes > max_bytes:
            raise BatchTooLarge("a zip file would unpack to more bytes than allowed in a batch")
    return directory


def _too_many(max_entries: int) -> BatchTooLarge:
    return BatchTooLarge(f"a zip file contains more than {max_entries} files")


def _page(entries: Iterator[ZipEntry]) -> list[ZipEntry]:
    return list(islice(entries, ENTRIES_AT_ONCE))


def _is_of_a_system(name: str) -> bool:
    parts = name.lower().split("/")
    return parts[-1].startswith(RESOURCE_FORK) or not SYSTEM_NAMES.isdisjoint(parts)


def _check(entry: ZipEntry) -> None:
    name = entry.name
    if entry.flags & IS_ENCRYPTED:
        raise InvalidRequest.of([(FIELD, "a zip file is encrypted")])
    if name.startswith("/") or ".." in name.split("/") or ":" in name[:2]:
        raise InvalidRequest.of([(FIELD, f"a name in a zip file points outside: {name[:100]}")])


class _Content:
    """The content of one file in a zip file, piece by piece."""

    def __init__(self, file: int, entry: ZipEntry, end: int) -> None:
        self._file = file
        self._entry = entry
        self._end = end
        """Where the directory begins; no file reaches beyond."""
        self._position = -1
        self._unread_bytes = entry.packed_bytes
        self._unpacked_bytes = 0
        self._crc = 0
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if piece := await asyncio.to_thread(self._read):
            return piece
        raise StopAsyncIteration

    def _read(self) -> bytes:
        if self._position < 0:
            self._open()
        try:
            piece = self._stored() if self._entry.method == STORED else self._inflated()
        except zlib.error:
            raise _damaged() from None
        self._unpacked_bytes += len(piece)
        self._crc = zlib.crc32(piece, self._crc)
        unpacked_bytes = self._entry.unpacked_bytes
        if self._unpacked_bytes > unpacked_bytes:
            raise _damaged()
        if not piece and (self._unpacked_bytes, self._crc) != (unpacked_bytes, self._entry.crc):
            raise _damaged()
        return piece

    def _open(self) -> None:
        entry = self._entry
        if entry.method not in (STORED, DEFLATED):
            raise UndecodableImage(
                f"the file is packed by method {entry.method}, which is not supported: "
                "use Deflate, or none"
            )
        if entry.position + LOCAL_HEADER.size > self._end:
            raise _damaged()
        header = os.pread(self._file, LOCAL_HEADER.size, entry.position)
        mark, name_bytes, extra_bytes = LOCAL_HEADER.unpack(header)
        self._position = entry.position + len(header) + name_bytes + extra_bytes
        if mark != LOCAL_HEADER_MARK or self._position + self._unread_bytes > self._end:
            raise _damaged()

    def _stored(self) -> bytes:
        piece = os.pread(self._file, min(PIECE_BYTES, self._unread_bytes), self._position)
        self._position += len(piece)
        self._unread_bytes -= len(piece)
        return piece

    def _inflated(self) -> bytes:
        """Returns the next bytes, at most `PIECE_BYTES`; none at the end of the packed data."""
        while not self._inflater.eof:
            packed = self._inflater.unconsumed_tail or self._stored()
            if piece := self._inflater.decompress(packed, PIECE_BYTES):
                return piece
            if not packed:
                raise _damaged()
        return b""


def _damaged() -> UndecodableImage:
    return UndecodableImage("the file is damaged in the zip file")
