"""Zip files: written to disk as they arrive, then unpacked one entry at a time.

The directory of a zip file is at its end, so nothing can be unpacked before the last byte arrived.
The sizes in the directory are checked before anything is unpacked, and nothing is unpacked beyond
them.  An entry that is damaged fails alone.
"""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO, Self

from image_categorizer_server.errors import BatchTooLarge, DependencyDown, InvalidRequest
from image_categorizer_server.rpc.batch.validation import checked_filename
from image_categorizer_server.services.upload import IgnoredFile, NewItem
from image_categorizer_server.stores.zip_directory import UnreadableZip, ZipEntry
from image_categorizer_server.stores.zip_file import (
    ZipFile,
    ZippedFile,
    is_of_a_system,
    is_zip_name,
)
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
ARCHIVE_TYPES = frozenset({"application/zip", "application/x-zip-compressed"})
ENTRIES_AT_ONCE = 256
# A zip file may unpack to this size whatever its ratio.
ANY_RATIO_BYTES = 64 * 2**20
# Folders, and files of operating systems, for each file that becomes an item.
ENTRIES_PER_FILE = 4


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


async def items_of(
    field: str,
    filename: str,
    content_type: str,
    content: AsyncIterator[bytes],
    limits: ArchiveLimits,
) -> AsyncGenerator[NewItem | IgnoredFile]:
    """Yields a file that a client sends; for a zip file, the files in it.

    Args:
        field: the field that holds the file; errors name it.
        filename: the valid name of the file.
        content_type: empty if the client states none.
        content: the file, piece by piece.
        limits: of a zip file.

    Raises:
        InvalidRequest: the zip file is invalid, or a name in it.
        BatchTooLarge: the zip file is too large, or would be when unpacked.
        DependencyDown: the disk is full.
    """
    if content_type.lower() not in ARCHIVE_TYPES and not is_zip_name(filename):
        yield NewItem(filename, content, None)
        return
    async with aclosing(unpacked(field, content, limits)) as items:
        async for item in items:
            yield item


async def unpacked(
    field: str, content: AsyncIterator[bytes], limits: ArchiveLimits
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
            packed = await asyncio.to_thread(_checked, file.fileno(), size_bytes, limits)
            entries = packed.files()
            while page := await asyncio.to_thread(_page, entries):
                for entry in page:
                    if is_of_a_system(entry.name):
                        yield IgnoredFile(entry.name)
                        continue
                    opened = _Content(packed.open(entry))
                    yield NewItem(checked_filename(entry.name, field), opened, None)
    except UnreadableZip as error:
        raise InvalidRequest.of([(field, f"a zip file {error}")]) from None
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


def _checked(file: int, size_bytes: int, limits: ArchiveLimits) -> ZipFile:
    """Returns a zip file that may be unpacked."""
    packed = ZipFile(file, size_bytes)
    max_entries = limits.max_entries
    if packed.has_more_than(max_entries * ENTRIES_PER_FILE):
        raise _too_many(max_entries)
    max_bytes = max(ANY_RATIO_BYTES, limits.max_ratio * size_bytes)
    max_bytes = min(limits.max_unpacked_bytes, max_bytes)
    count = unpacked_bytes = 0
    for entry in packed.files():
        if is_of_a_system(entry.name):
            continue
        count += 1
        unpacked_bytes += min(entry.unpacked_bytes, limits.max_image_bytes)
        if count > max_entries:
            raise _too_many(max_entries)
        if unpacked_bytes > max_bytes:
            raise BatchTooLarge("a zip file would unpack to more bytes than allowed in a batch")
    return packed


def _too_many(max_entries: int) -> BatchTooLarge:
    return BatchTooLarge(f"a zip file contains more than {max_entries} files")


def _page(entries: Iterator[ZipEntry]) -> list[ZipEntry]:
    return list(islice(entries, ENTRIES_AT_ONCE))


class _Content:
    """The content of one file in a zip file, piece by piece, read in a thread."""

    def __init__(self, file: ZippedFile) -> None:
        self._file = file

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if piece := await asyncio.to_thread(self._file.read):
            return piece
        raise StopAsyncIteration
