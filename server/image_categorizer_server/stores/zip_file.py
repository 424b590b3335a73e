"""Zip files on disk: the files in them, read piece by piece.

An entry that is damaged fails alone.  Nothing is unpacked beyond the size in the directory.
"""

import os
import zlib
from collections.abc import Iterator
from struct import Struct

from image_categorizer_server.errors import UndecodableImage
from image_categorizer_server.quoting import quoted
from image_categorizer_server.stores.zip_directory import (
    UnreadableZip,
    ZipDirectory,
    ZipEntry,
)

PIECE_BYTES = 2**18
IS_ENCRYPTED = 0x1
STORED, DEFLATED = 0, 8
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


def is_zip_name(filename: str) -> bool:
    """Returns whether a file is a zip file by its name."""
    return filename.lower().endswith(".zip")


def is_of_a_system(name: str) -> bool:
    """Returns whether a file, named with its folders, was added by an operating system."""
    parts = name.lower().split("/")
    return parts[-1].startswith(RESOURCE_FORK) or not SYSTEM_NAMES.isdisjoint(parts)


class ZipFile:
    """An open zip file; reads it without moving the file's position."""

    def __init__(self, file: int, size_bytes: int) -> None:
        """Finds the directory.

        Args:
            file: the descriptor. Must stay open while anything is read.
            size_bytes: the size of the file.

        Raises:
            UnreadableZip: there is no directory.
        """
        self._file = file
        self._directory = ZipDirectory(file, size_bytes)

    def has_more_than(self, max_entries: int) -> bool:
        """Returns whether there are more entries, folders included.

        Raises:
            UnreadableZip: the directory is damaged.
        """
        return self._directory.has_more_than(max_entries)

    def files(self) -> Iterator[ZipEntry]:
        """Yields the files, those of operating systems included.

        Raises:
            UnreadableZip: the directory is damaged, a file is encrypted, or a name points outside.
        """
        for entry in self._directory.entries():
            if entry.name.endswith("/"):
                continue
            if not is_of_a_system(entry.name):
                _check(entry)
            yield entry

    def open(self, entry: ZipEntry) -> "ZippedFile":
        """Returns the content of a file, of which nothing is read yet."""
        return ZippedFile(self._file, entry, self._directory.position)


class ZippedFile:
    """The content of one file in a zip file, from its start to its end."""

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

    def read(self) -> bytes:
        """Returns the next piece, at most `PIECE_BYTES`; nothing at the end.

        Raises:
            UndecodableImage: the file is damaged, or packed by a method that is not supported.
            OSError: the zip file cannot be read.
        """
        if self._position < 0:
            self._find()
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

    def _find(self) -> None:
        entry = self._entry
        if entry.method not in (STORED, DEFLATED):
            raise UndecodableImage(
                f"the file is packed by method {entry.method}, which is not supported: "
                "use Deflate, or none"
            )
        if entry.position + LOCAL_HEADER.size > self._end:
            raise _damaged()
        header = os.pread(self._file, LOCAL_HEADER.size, entry.position)
        if len(header) < LOCAL_HEADER.size:  # somebody has cut the zip file meanwhile
            raise _damaged()
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


def _check(entry: ZipEntry) -> None:
    name = entry.name
    if entry.flags & IS_ENCRYPTED:
        raise UnreadableZip("is encrypted")
    if name.startswith("/") or ".." in name.split("/") or ":" in name[:2]:
        raise UnreadableZip(f"has a name that points outside: {quoted(name)}")


def _damaged() -> UndecodableImage:
    return UndecodableImage("the file is damaged in the zip file")
