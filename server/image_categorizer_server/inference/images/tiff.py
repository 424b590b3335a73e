"""The first directory of a TIFF file (TIFF 6.0, section 2; BigTIFF), read before its pixels."""

import re
import struct
from dataclasses import dataclass

from image_categorizer_server.errors import UndecodableImage, UnsupportedFormat
from image_categorizer_server.inference.images.container import Container, too_many_tags

TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
TYPE_BYTES |= {16: 8, 17: 8, 18: 8}
NUMBERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
SUBFILE_TYPE, BITS_PER_SAMPLE, DESCRIPTION = 254, 258, 270
MAX_SAMPLE_VALUE, SUB_IFDS, CFA_REPEAT, DNG_VERSION = 281, 330, 33421, 50706
MAX_DESCRIPTION_BYTES = 65_536
# What OME and ImageJ write, whose cameras have 10, 12 or 14 bits.
SIGNIFICANT_BITS = re.compile(rb'SignificantBits="(\d{1,2})"')
IMAGEJ_MAX = re.compile(rb"^ImageJ=.*?^max=(\d{1,5})(?:\.\d*)?\s*$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file writes numbers: classic TIFF, or BigTIFF with its longer ones."""

    order: str
    is_big: bool

    @property
    def entry(self) -> str:
        """Tag, type, count; a value or its place follows."""
        return self.order + ("HHQ" if self.is_big else "HHI")

    @property
    def offset(self) -> str:
        """The place of a value or a directory."""
        return self.order + ("Q" if self.is_big else "I")

    @property
    def count(self) -> str:
        """The number of entries of a directory."""
        return self.order + ("Q" if self.is_big else "H")


@dataclass(frozen=True, slots=True)
class Tag:
    """The place of a tag's values."""

    kind: int
    count: int
    at: int

    @property
    def size_bytes(self) -> int:
        """The size of all values."""
        return TYPE_BYTES.get(self.kind, 0) * self.count


def read_tiff(content: bytes, max_tags: int) -> Container:
    """Returns a TIFF file with the white of its samples; Pillow applies the orientation.

    Raises:
        UndecodableImage: it has no directory, or one that is too large.
        UnsupportedFormat: it is a camera's raw file.
    """
    layout = Layout("<" if content[:2] == b"II" else ">", content[2:4] in (b"+\0", b"\0+"))
    try:
        tags = _tags(content, layout, max_tags)
        _refuse_raw(content, layout, tags)
        return Container(content, max_sample=_max_sample(content, layout, tags))
    except struct.error as error:
        raise UndecodableImage("the TIFF image is damaged or truncated") from error


def _tags(content: bytes, layout: Layout, max_tags: int) -> dict[int, Tag]:
    (at,) = struct.unpack_from(layout.offset, content, 8 if layout.is_big else 4)
    (count,) = struct.unpack_from(layout.count, content, _within(at))
    if count > max_tags:
        raise too_many_tags(max_tags)
    at += struct.calcsize(layout.count)
    header_bytes, inline_bytes = struct.calcsize(layout.entry), struct.calcsize(layout.offset)
    tags: dict[int, Tag] = {}
    total_bytes = 0
    for entry in range(at, at + count * (header_bytes + inline_bytes), header_bytes + inline_bytes):
        number, kind, values = struct.unpack_from(layout.entry, content, entry)
        value_at = entry + header_bytes
        if TYPE_BYTES.get(kind, 0) * values > inline_bytes:
            (value_at,) = struct.unpack_from(layout.offset, content, value_at)
        tags[number] = Tag(kind, values, value_at)
        if value_at + tags[number].size_bytes <= len(content):
            total_bytes += tags[number].size_bytes
    # Tags may share their values: a few kilobytes of tags could ask for gigabytes.
    if total_bytes > 2 * len(content):
        raise UndecodableImage("the tags of the TIFF image claim more bytes than it has")
    return tags


def _within(at: int) -> int:
    if at > 2**62:
        raise struct.error
    return at


def _number(content: bytes, layout: Layout, tag: Tag | None) -> int | None:
    """Returns the first value of a tag of whole numbers; None without one."""
    if tag is None or tag.kind not in NUMBERS or not tag.count:
        return None
    (value,) = struct.unpack_from(layout.order + NUMBERS[tag.kind], content, _within(tag.at))
    return int(value)


def _refuse_raw(content: bytes, layout: Layout, tags: dict[int, Tag]) -> None:
    """Refuses a camera's raw file: its first picture is a thumbnail, or the sensor's mosaic."""
    is_reduced = (_number(content, layout, tags.get(SUBFILE_TYPE)) or 0) & 1
    is_thumbnail = is_reduced and SUB_IFDS in tags
    if content[8:10] == b"CR" or is_thumbnail or tags.keys() & {CFA_REPEAT, DNG_VERSION}:
        raise UnsupportedFormat("camera RAW is not supported; send the JPEG that the camera makes")


def _max_sample(content: bytes, layout: Layout, tags: dict[int, Tag]) -> int | None:
    """Returns the white that the file states for samples of 16 bits; None if it states none."""
    if _number(content, layout, tags.get(BITS_PER_SAMPLE)) != 16:
        return None
    white = _number(content, layout, tags.get(MAX_SAMPLE_VALUE))
    if white is None and (text := tags.get(DESCRIPTION)) is not None:
        size_bytes = min(text.size_bytes, MAX_DESCRIPTION_BYTES)
        description = content[_within(text.at) : text.at + size_bytes]
        if found := SIGNIFICANT_BITS.search(description):
            white = (1 << min(int(found[1]), 16)) - 1
        elif found := IMAGEJ_MAX.search(description):
            white = int(found[1])
    return white if white is not None and 0xFF <= white < 0xFFFF else None
