"""The directory of a zip file, read one entry at a time (APPNOTE.TXT 6.3.10).

`zipfile` makes an object of every entry when it opens a file: a directory of 100 MB, which anybody
can upload, becomes a gigabyte of memory.  Here memory holds one piece of the directory.
"""

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

# 4.3.16: signature, disk, disk of the directory, entries here, entries, size, offset, comment size
END = Struct("<4s4H2LH")
# 4.3.14: signature, size, made by, needed, disk, disk of the directory, entries here, entries,
# size, offset
END_64 = Struct("<4sQ2H2L4Q")
LOCATOR = Struct("<4sLQL")  # 4.3.15
# 4.3.12: signature, made by, needed, flags, method, time, date, CRC-32, packed, unpacked,
# name size, extra size, comment size, disk, attributes (2), offset
ENTRY = Struct("<4s6H3L5H2L")
SIZES = Struct("<3H")  # of the name, the extra fields and the comment, from byte 28 of an entry
SIZES_AT = 28
FIELD = Struct("<2H")  # 4.5.1: id and size of an extra field
LONG = Struct("<Q")
END_MARK, END_64_MARK, ENTRY_MARK = b"PK\x05\x06", b"PK\x06\x06", b"PK\x01\x02"
MAX_COMMENT_BYTES = 65_535
IN_EXTRA_FIELD = 0xFFFFFFFF
ZIP_64, UNICODE_PATH = 0x0001, 0x7075  # 4.5.3, 4.6.9
IS_UTF_8 = 0x800
PIECE_BYTES = 2**18


class UnreadableZip(ValueError):
    """A zip file cannot be read: `a zip file {error}` is the sentence that says why."""


class DamagedZip(UnreadableZip):
    """The file is not a zip file, or is damaged."""

    def __init__(self) -> None:
        super().__init__("is damaged")


@dataclass(frozen=True, slots=True)
class ZipEntry:
    """One entry of the directory. Nothing in it is checked against the file it describes."""

    name: str
    """With `/` between folders, also where the zip file has `\\`; a folder ends with `/`."""
    flags: int
    method: int
    crc: int
    packed_bytes: int
    unpacked_bytes: int
    position: int
    """Where its local header begins, in bytes from the start of the file."""


class ZipDirectory:
    """Where the directory of an open zip file is; reads it without moving the file's position."""

    def __init__(self, file: int, size_bytes: int) -> None:
        """Finds the directory, from the record at the end of the file.

        Args:
            file: the descriptor.
            size_bytes: the size of the file.

        Raises:
            DamagedZip: there is no such record, or it contradicts the size of the file.
        """
        self._file = file
        tail_bytes = min(size_bytes, END.size + MAX_COMMENT_BYTES)
        tail = os.pread(file, tail_bytes, size_bytes - tail_bytes)
        start = tail.rfind(END_MARK)
        if start < 0 or len(tail) - start < END.size:
            raise DamagedZip
        end = size_bytes - len(tail) + start
        _, disk, directory_disk, _, count, size, offset, _ = END.unpack_from(tail, start)
        position_64 = end - LOCATOR.size - END_64.size
        if position_64 >= 0:
            record = os.pread(file, END_64.size, position_64)
            if record.startswith(END_64_MARK):
                *_, disk, directory_disk, _, count, size, offset = END_64.unpack(record)
                end = position_64
        # Whatever precedes the zip file, as in a program that unpacks itself, moves all offsets.
        self._moved_bytes = end - size - offset
        if disk or directory_disk or self._moved_bytes < 0:
            raise DamagedZip
        self.position: int = end - size
        """Where the directory begins. All files are before it."""
        self._end = end
        self._stated_count: int = count

    def has_more_than(self, max_entries: int) -> bool:
        """Returns whether there are more entries; does not believe a record that states fewer.

        Raises:
            DamagedZip: what is at the directory's place is not a directory.
        """
        if self._stated_count > max_entries:
            return True
        return any(count > max_entries for count, _ in enumerate(self._headers(), 1))

    def entries(self) -> Iterator[ZipEntry]:
        """Yields the entries.

        Raises:
            DamagedZip: what is at the directory's place is not a directory.
        """
        for piece, start in self._headers():
            _, _, _, flags, method, _, _, crc, packed, unpacked, *sizes, _, _, _, offset = (
                ENTRY.unpack_from(piece, start)
            )
            name_bytes, extra_bytes, _ = sizes
            name_at = start + ENTRY.size
            extra_at = name_at + name_bytes
            name = piece[name_at:extra_at]
            extra = _extra_fields(piece[extra_at : extra_at + extra_bytes])
            if longs := extra.get(ZIP_64):
                unpacked, packed, offset = _long_sizes(longs, unpacked, packed, offset)
            yield ZipEntry(
                _name(name, flags, extra.get(UNICODE_PATH, b"")).replace("\\", "/"),
                flags,
                method,
                crc,
                packed,
                unpacked,
                offset + self._moved_bytes,
            )

    def _headers(self) -> Iterator[tuple[bytes, int]]:
        """Yields a piece of the directory that holds a whole entry, and where in it that starts."""
        piece, start, read_to = b"", 0, self.position
        while True:
            left = len(piece) - start
            size = ENTRY.size
            if left >= size:
                if not piece.startswith(ENTRY_MARK, start):
                    raise DamagedZip
                size += sum(SIZES.unpack_from(piece, start + SIZES_AT))
            if left >= size:
                yield piece, start
                start += size
                continue
            if read_to == self._end:
                if left:
                    raise DamagedZip
                return
            more = os.pread(self._file, min(PIECE_BYTES, self._end - read_to), read_to)
            if not more:
                raise DamagedZip
            read_to += len(more)
            piece, start = piece[start:] + more, 0


def _extra_fields(data: bytes) -> dict[int, bytes]:
    if not data:
        return {}
    found: dict[int, bytes] = {}
    start = 0
    while start + FIELD.size <= len(data):
        kind, size = FIELD.unpack_from(data, start)
        start += FIELD.size
        found.setdefault(kind, data[start : start + size])
        start += size
    return found


def _long_sizes(longs: bytes, unpacked: int, packed: int, offset: int) -> tuple[int, int, int]:
    """Returns the three numbers; those that did not fit their place are in the extra field."""
    start, found = 0, []
    for value in (unpacked, packed, offset):
        if value == IN_EXTRA_FIELD:
            if start + LONG.size > len(longs):
                raise DamagedZip
            value = LONG.unpack_from(longs, start)[0]  # noqa: PLW2901 - the same, whole
            start += LONG.size
        found.append(value)
    unpacked, packed, offset = found
    return unpacked, packed, offset


def _name(name: bytes, flags: int, unicode_path: bytes) -> str:
    """Returns a name.

    UTF-8 if the entry says so, or has it in an extra field about this very name; otherwise also
    where it can be UTF-8, which the Finder of macOS writes unmarked; otherwise code page 437.
    """
    if flags & IS_UTF_8:
        return name.decode(errors="replace")
    version_and_crc = b"\1" + zlib.crc32(name).to_bytes(4, "little")
    if unicode_path.startswith(version_and_crc):
        return unicode_path[len(version_and_crc) :].decode(errors="replace")
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("cp437")
