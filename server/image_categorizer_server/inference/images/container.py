"""What the bytes around the pixels say, read before a decoder sees them.

Decoders read metadata with little thought of hostile files: they warn about each bad tag, and keep
each comment.  Classification needs only the orientation and the depth, so those are read here, in
bounded time, and the decoder gets a file without the rest.
"""

import re
import struct
from dataclasses import dataclass

from image_categorizer_server.errors import UndecodableImage

ORIENTATION_TAG = 0x0112
SHORT = 3
# An entry of the item list of HEIF (ISO/IEC 23008-12): its size, `infe`, version, flags, number.
HEIF_EXIF_ITEM = re.compile(rb"(infe[\x02\x03].{3}.{4,6})Exif", re.DOTALL)
GIF_IMAGE, GIF_EXTENSION, GIF_GRAPHIC_CONTROL = 0x2C, 0x21, 0xF9
BMP_UNCOMPRESSED = frozenset({0, 3, 6})  # BI_RGB, BI_BITFIELDS, BI_ALPHABITFIELDS


@dataclass(frozen=True, slots=True)
class Container:
    """An image file without what classification does not need."""

    content: bytes
    """What the decoder gets."""
    orientation: int | None = None
    """The EXIF orientation, 1 to 8; None if there is none, or the decoder applies it."""
    max_sample: int | None = None
    """The value that is white, if the file says that it uses fewer than its 16 bits."""
    is_truncated: bool = False
    """Whether the end of the file is missing."""
    is_clean: bool = False
    """Whether `content` holds the picture, and nothing else."""


def too_many_tags(max_tags: int) -> UndecodableImage:
    """Returns the error for an image with more metadata than is read."""
    return UndecodableImage(
        f"the image has more than {max_tags} tags, chunks or segments; remove its metadata"
    )


def exif_orientation(exif: bytes) -> int | None:
    """Returns the orientation in EXIF data (EXIF 2.32, section 4.6.4 A); None if there is none."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return None
    try:
        (at,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, entry)
            if tag == ORIENTATION_TAG:
                return value if kind == SHORT and 1 <= value <= 8 else None
    except struct.error:
        return None
    return None


def read_gif(content: bytes, max_tags: int) -> Container:
    """Returns a GIF without the extensions before its first image, except the graphic control."""
    at = 13 + (3 << (content[10] & 7) + 1 if len(content) > 13 and content[10] & 0x80 else 0)
    kept = [content[:at]]
    extensions = 0
    while content[at : at + 1] == bytes([GIF_EXTENSION]):
        extensions += 1
        if extensions > max_tags:
            raise too_many_tags(max_tags)
        start, at = at, at + 2
        while at < len(content) and content[at]:
            at += 1 + content[at]
        at += 1
        if content[start + 1 : start + 2] == bytes([GIF_GRAPHIC_CONTROL]):
            kept[1:] = [content[start:at]]  # the last one counts
    return Container(b"".join([*kept, content[at:]]))


def read_heif(content: bytes) -> Container:
    """Returns an AVIF or HEIC file without its EXIF data.

    The orientation of these formats is a property of the image; that in EXIF data is to be ignored
    (ISO/IEC 23008-12, annex A).
    """
    return Container(HEIF_EXIF_ITEM.sub(rb"\1skip", content))


def read_bmp(content: bytes, min_rows_share: float) -> Container:
    """Returns a BMP file, with empty rows for those missing if few are missing."""
    try:
        (at,) = struct.unpack_from("<I", content, 10)
        width_px, height_px, _, bits, compression = struct.unpack_from("<iiHHI", content, 18)
    except struct.error:
        return Container(content)
    row_bytes = (abs(width_px) * bits + 31) // 32 * 4
    whole_bytes = at + row_bytes * abs(height_px)
    if compression not in BMP_UNCOMPRESSED or not row_bytes or len(content) >= whole_bytes:
        return Container(content)
    share = (len(content) - at) // row_bytes / abs(height_px)
    if share < min_rows_share:
        return Container(content)  # the decoder refuses it
    return Container(content.ljust(whole_bytes, b"\0"), is_truncated=True)
