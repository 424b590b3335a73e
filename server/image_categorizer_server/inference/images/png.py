"""The structure of a PNG file (PNG, third edition): its chunks, and rows that are missing."""

import struct
import zlib
from dataclasses import dataclass

from image_categorizer_server.errors import UndecodableImage
from image_categorizer_server.inference.images.container import (
    Container,
    exif_orientation,
    too_many_tags,
)

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# A chunk whose type begins with a small letter is ancillary: a picture is complete without it.
ANCILLARY = 0x20
END = struct.pack(">I4sI", 0, b"IEND", zlib.crc32(b"IEND"))
BYTES_PER_CHUNK = 4096
"""Encoders write the picture in chunks of at least about this size."""
NEEDED = frozenset({b"IHDR", b"PLTE", b"IDAT"})
TRANSPARENCY_BYTES = {0: 2, 2: 6, 3: 256}
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
MAX_TEXT_BYTES = 1_000_000
OLD_EXIF = (b"Raw profile type exif\0", b"Raw profile type APP1\0")  # before eXIf existed


@dataclass(frozen=True, slots=True)
class Header:
    """The chunk IHDR."""

    width_px: int
    height_px: int
    bits: int
    colour: int
    is_interlaced: bool

    @property
    def row_bytes(self) -> int:
        """The size of a row, with the byte that names its filter."""
        return 1 + (self.width_px * self.bits * CHANNELS[self.colour] + 7) // 8


@dataclass(frozen=True, slots=True)
class Png(Container):
    """A PNG file without the chunks that classification does not need."""

    header: Header | None = None

    def mended(self) -> tuple[bytes, float]:
        """Returns the file with empty rows for those missing, and the share of rows it has.

        Call it only for an image within the limits: it needs the memory of all rows.  The rows of
        an interlaced image are spread over the file, so none of its rows counts.
        """
        header = self.header
        if header is None or header.colour not in CHANNELS:
            return self.content, 0.0
        before, data = _picture(self.content)
        whole_bytes = header.height_px * header.row_bytes
        inflate = zlib.decompressobj()
        try:
            # Interlaced rows are shorter: there are at most twice as many, and rounding.
            rows = inflate.decompress(data, 2 * whole_bytes + 64)
        except zlib.error:
            return self.content, 0.0
        if inflate.eof:
            return before + _chunk(b"IDAT", data) + END, 1.0
        if header.is_interlaced:
            return self.content, 0.0
        count = min(len(rows) // header.row_bytes, header.height_px)
        rows = rows[: count * header.row_bytes].ljust(whole_bytes, b"\0")
        picture = _chunk(b"IDAT", zlib.compress(rows, 0))
        return b"".join([before, picture, END]), count / header.height_px


def read_png(content: bytes, max_tags: int) -> Png:
    """Returns the structure of a PNG file.

    Raises:
        UndecodableImage: it has too many chunks, or no header.
    """
    kept = [SIGNATURE]
    orientation = max_sample = None
    header, has_end = None, False
    at, count = len(SIGNATURE), 0
    limit = max_tags + len(content) // BYTES_PER_CHUNK
    while at + 8 <= len(content) and not has_end:
        length, kind = struct.unpack_from(">I4s", content, at)
        end = at + 12 + length
        count += 1
        if count > limit:
            raise too_many_tags(max_tags)
        if kind[0] & ANCILLARY:
            body = _checked(content, at, end)
            if kind == b"tRNS" and body is not None and header is not None:
                kept.append(_chunk(kind, body[: TRANSPARENCY_BYTES.get(header.colour, 0)]))
            elif kind == b"sBIT" and body and header is not None:
                max_sample = _max_sample(header, body)
                kept.append(_chunk(kind, body[: CHANNELS.get(header.colour, 1)]))
            elif body is not None and orientation is None:
                orientation = _orientation(kind, body)
        else:
            header = header or _header(content, at, end)
            has_end = kind == b"IEND" and end <= len(content)
            if kind in NEEDED:
                kept.append(content[at:end])
        at = end
    if has_end:
        kept.append(END)
    return Png(b"".join(kept), orientation, max_sample, not has_end, has_end, header)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body), kind) + body + struct.pack(">I", zlib.crc32(kind + body))


def _checked(content: bytes, at: int, end: int) -> bytes | None:
    """Returns the body of a chunk; None if it is cut, or its checksum is wrong."""
    if end > len(content):
        return None
    (checksum,) = struct.unpack_from(">I", content, end - 4)
    return content[at + 8 : end - 4] if zlib.crc32(content[at + 4 : end - 4]) == checksum else None


def _header(content: bytes, at: int, end: int) -> Header:
    body = _checked(content, at, end)
    if body is None or len(body) != 13 or content[at + 4 : at + 8] != b"IHDR":
        raise UndecodableImage("the PNG image is damaged or truncated: its header is")
    width_px, height_px, bits, colour, _, _, interlace = struct.unpack(">IIBBBBB", body)
    return Header(width_px, height_px, bits, colour, interlace != 0)


def _max_sample(header: Header, body: bytes) -> int | None:
    """Returns the largest value of the bits that sBIT calls significant; None if all are."""
    bits = max(body[: CHANNELS.get(header.colour, 1)])
    return (1 << bits) - 1 if header.bits == 16 and 8 <= bits < 16 else None


def _orientation(kind: bytes, body: bytes) -> int | None:
    if kind == b"eXIf":
        return exif_orientation(body)
    if kind in (b"tEXt", b"zTXt") and body.startswith(OLD_EXIF):
        text = body.split(b"\0", 1)[1]
        try:
            if kind == b"zTXt":
                text = zlib.decompressobj().decompress(text[1:], MAX_TEXT_BYTES)
            return exif_orientation(bytes.fromhex("".join(text.decode().split("\n")[3:])))
        except (zlib.error, ValueError):
            return None
    return None


def _picture(content: bytes) -> tuple[bytes, bytes]:
    """Returns the chunks before the picture, and its compressed rows up to the first bad chunk."""
    at, before, data = len(SIGNATURE), [SIGNATURE], []
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        end = at + 12 + length
        if kind == b"IDAT":
            data.append(content[at + 8 : min(end - 4, len(content))])
            if _checked(content, at, end) is None:
                break
        elif not data:
            before.append(content[at:end])
        at = end
    return b"".join(before), b"".join(data)
